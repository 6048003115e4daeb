from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.config.run import load
from interformer_rec.data.files.source import open_source
from interformer_rec.errors import InputError
from interformer_rec.planning.cost.repeats import Repeats, measure, of_entry
from interformer_rec.planning.cost.sizes import find_sizes
from tests.planning.cases import CONFIG

ROWS = 3000


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A thousandth of the ids is half of all events; 900 users are drawn evenly."""
    folder, draw = tmp_path_factory.mktemp("repeats"), np.random.default_rng(0)
    events = [np.where(draw.random(20) < 0.5, 7, draw.integers(0, 400, 20)).tolist() for _ in range(ROWS)]
    columns = {
        "user": draw.integers(0, 900, ROWS), "city": draw.integers(0, 50, ROWS), "item_id": draw.integers(0, 400, ROWS),
        "words": [[f"w{i}" for i in draw.integers(0, 200, 3)] for _ in range(ROWS)],
        "item": events, "tag": [[i % 30 for i in row] for row in events], "liked": events,
        "age": draw.random(ROWS), "label": draw.integers(0, 2, ROWS),
    }  # fmt: skip
    pq.write_table(pa.table(columns), folder / "train.parquet", row_group_size=1000)
    (folder / "small.yaml").write_text(CONFIG)
    return folder


def test_distinct_ids_are_those_of_the_rows(data: Path):
    config = load(data / "small.yaml")
    found = measure(config.features, open_source(str(data / "train.parquet"), None), ROWS)
    table = pq.read_table(data / "train.parquet")
    users = len(set(table["user"].to_pylist()))
    assert found["user"].distinct[-1] == (ROWS, users)
    newest = [row[-12:] for row in table["item"].to_pylist()] + [row[-5:] for row in table["liked"].to_pylist()]
    every = [i for row in newest for i in row] + table["item_id"].to_pylist()
    assert found["item"].distinct[-1] == (len(every), len(set(every)))
    assert found["item"].head[0][1] == pytest.approx(every.count(7) / len(every), abs=1e-6)
    assert found["user"].of(256, 900) == pytest.approx(900 * (1 - np.exp(-256 / 900)), rel=0.1)
    assert found["item"].of(17 * 16, 400) < 0.75 * Repeats().of(17 * 16, 400)


@pytest.mark.parametrize("repeats", [Repeats(), Repeats(((100.0, 60.0), (1000.0, 200.0))), Repeats(((1000.0, 300.0),))])
def test_never_more_distinct_ids_than_ids_or_rows_and_never_fewer_for_more_ids(repeats: Repeats):
    counts = [repeats.of(n, 5000) for n in np.geomspace(0.5, 1e7, 60)]
    assert all(0 < c <= min(n, 5000) * (1 + 1e-9) for c, n in zip(counts, np.geomspace(0.5, 1e7, 60), strict=True))
    assert counts == sorted(counts)
    assert repeats.of(0, 5000) == 0


def test_the_head_has_its_share():
    repeats = Repeats(head=((1.0, 0.2), (100.0, 0.6)))
    shares = [repeats.head_share(k, 1000) for k in (0, 0.5, 1, 10, 100, 500, 1000, 5000)]
    assert shares == sorted(shares) and shares[2] == 0.2 and shares[4] == 0.6 and shares[-2:] == [1.0, 1.0]
    assert Repeats().head_share(250, 1000) == 0.25


def test_a_statistics_file_keeps_them(data: Path):
    config = load(data / "small.yaml", [f"data.train={data / 'train.parquet'}", f"training.out={data / 'run'}"])
    sizes = find_sizes(config)
    assert sizes.repeats["item"] == measure(config.features, open_source(config.data.train, None), ROWS)["item"]
    kept = sizes.to_dict()["tables"]["item"]
    assert of_entry(kept) == sizes.repeats["item"]
    assert of_entry({"rows": 3}) is None


@pytest.mark.parametrize(
    "entry, part",
    [({"distinct": [[10, 5], [5, 6]]}, "rise"), ({"head": [[1, 2.0]]}, "up to 1"), ({"distinct": [[0, 1]]}, "above 0")],
)
def test_bad_statistics_are_named(data: Path, tmp_path: Path, entry: dict[str, object], part: str):
    path = tmp_path / "s.json"
    path.write_text(__import__("json").dumps({"tables": {"item": {"rows": 9, **entry}}}))
    with pytest.raises(InputError, match=part):
        find_sizes(load(data / "small.yaml"), None, str(path))
