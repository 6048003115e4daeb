"""The draft for request rows says what the draft for the same candidates as impressions says, and which columns are lists of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.config.run import parse_yaml
from interformer_rec.data.fit import fit
from interformer_rec.data.grouping.arguments import AskedColumns
from interformer_rec.data.grouping.command import group
from interformer_rec.data.inspect.command import decisions, inspect_folder
from tests.data.request_samples import structs
from tests.data.samples import loader_of


def impressions(requests: int, candidates: int = 4) -> pa.Table:
    """Rows that lie by request."""
    random = np.random.default_rng(0)
    of = np.repeat(np.arange(requests), candidates)
    histories = [random.integers(0, 90, 8 + one % 5).tolist() for one in range(requests)]
    size = len(of)
    return pa.table(
        {
            "request": of,
            "user_id": of % 37,
            "watch_history_item": [histories[one] for one in of],
            "item_id": random.integers(0, 90, size),
            "price": random.random(size),
            "tags": [random.integers(0, 9, random.integers(0, 4)).tolist() for _ in range(size)],
            "click": random.integers(0, 2, size).astype(np.int8),
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, requests in (("train", 300), ("valid", 80)):
        (tmp_path / "impressions").mkdir(exist_ok=True)
        pq.write_table(impressions(requests), tmp_path / f"impressions/{name}.parquet", row_group_size=99)
    asked = AskedColumns(candidates="item_id,price,tags,click", drop="")
    group(str(tmp_path / "impressions"), str(tmp_path / "grouped"), "request", asked)
    (tmp_path / "plain").mkdir()
    for name in ("train", "valid"):  # files of others do not say which columns are lists of candidates
        table = pq.ParquetFile(tmp_path / f"grouped/{name}.parquet").read().replace_schema_metadata(None)
        pq.write_table(table, tmp_path / f"plain/{name}.parquet", row_group_size=23)
    (tmp_path / "structs").mkdir()
    for name in ("train", "valid"):
        packed = structs(pq.read_table(tmp_path / f"plain/{name}.parquet"), ("item_id", "price", "tags", "click"))
        pq.write_table(packed, tmp_path / f"structs/{name}.parquet", row_group_size=23)
    return tmp_path


@pytest.mark.parametrize("form", ["grouped", "plain", "structs"])
def test_the_draft_is_that_of_the_impressions(folder: Path, form: str) -> None:
    ours, theirs = (inspect_folder(str(folder / name)) for name in (form, "impressions"))
    request = f"  request: {{candidates: [item_id, tags, price]{', column: shown' if form == 'structs' else ''}}}"
    own = [line for line in ours.splitlines() if line.startswith((request, "# Rows of the files", "  split: true"))]
    assert len(own) == 3 and not decisions(ours)
    rest = [line for line in ours.splitlines() if line not in own]
    facts = ("# Drafted", "# (from", "name:", "  train:", "  valid:")
    assert [line for line in rest if not line.startswith(facts)] == [
        line for line in theirs.splitlines() if not line.startswith(facts)
    ]
    assert "  # 1,200 rows" in ours and "  # 320 rows" in ours
    config = parse_yaml(ours, "draft")
    assert config.features.request is not None and config.data.train is not None
    fitted = fit(config.features, config.data.train)
    batches = [batch for batch, _ in loader_of(config.data.train, config.features, fitted, batch_size=64).batches()]
    assert sum(batch.rows for batch in batches) == 1200 and batches[0].requests == 16


def test_impressions_with_histories_of_feedback_are_no_requests(tmp_path: Path) -> None:
    table = impressions(200)
    lengths = [len(history) for history in table["watch_history_item"].to_pylist()]
    table = table.append_column("watch_liked", pa.array([[1] * length for length in lengths]))
    pq.write_table(table, tmp_path / "train.parquet")
    assert "candidates" not in inspect_folder(str(tmp_path / "train.parquet"))
