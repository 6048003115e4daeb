"""A window is counted and its ids admitted: from Parquet files, on one rank and on several, saved and loaded between."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.decode.decoder import row_maps
from interformer_rec.data.files.source import open_source
from interformer_rec.data.fit import Fitted, fit
from interformer_rec.data.growth.admission import admit, count_window, follow
from interformer_rec.data.growth.saved import waiting_file
from interformer_rec.errors import DamagedError
from tests.data.growth.reference import Plain

SCHEMA = FeatureSchema.model_validate(
    {
        "tables": {
            "item": {"ids": "vocab", "grow": {"rows": 30, "min_count": 3, "keep": 2}},
            "word": {"ids": "vocab", "grow": {"rows": 8}},
            "city": {"ids": "vocab"},
        },
        "ids": ["item", "word", "city"],
        "sequences": [{"name": "past", "max_length": 3, "columns": [{"name": "item", "column": "past"}]}],
        "labels": ["click"],
    }
)


def write(path, window: int) -> dict[str, dict]:
    """Rows of a window; what each table sees in it."""
    random = np.random.default_rng(window)
    item = random.integers(0, 25, 90) + 12 * window
    past = [list(random.integers(0, 25, random.integers(0, 6)) + 12 * window - 6) for _ in range(90)]
    word = [f"w{at}" for at in random.integers(0, 6, 90) + 2 * window]
    columns = {
        "item": pa.array(item),
        "past": pa.array([[int(id_) for id_ in row] for row in past], pa.list_(pa.int64())),
        "word": word,
        "city": random.integers(0, 5, 90) + window,
        "click": np.zeros(90),
    }
    pq.write_table(pa.table(columns), path, row_group_size=17)
    items: dict = {}
    for id_ in [*item.tolist(), *(int(id_) for row in past for id_ in row)]:
        items[id_] = items.get(id_, 0) + 1
    return {"item": items, "word": {id_: word.count(id_) for id_ in set(word)}}


@pytest.mark.parametrize("ranks", [1, 3])
def test_windows_of_files_grow_the_tables_as_in_plain_python(tmp_path, ranks):
    plain = {name: Plain(SCHEMA.tables[name].grow) for name in ("item", "word")}
    fitted = reader = None
    for window in range(5):
        path = tmp_path / f"{window}.parquet"
        seen = write(path, window)
        for name, counted in seen.items():
            plain[name].grow(counted)
        if fitted is None:
            fitted = reader = fit(SCHEMA, str(path))
            cities = fitted.vocabularies["city"]
        else:
            shares = [count_window(SCHEMA, open_source(str(path)), 2, (rank, ranks)) for rank in range(ranks)]
            for other in shares[1:]:
                for name, counts in other.items():
                    shares[0][name].merge(counts)
            fitted, changes = admit(SCHEMA, fitted, shares[0])
            reader = follow(reader, changes)
            assert set(changes) == {"item", "word"}
        fitted.save(tmp_path / "saved")
        fitted = Fitted.load(tmp_path / "saved")
        for name, one in plain.items():
            assert fitted.vocabularies[name].to_pylist() == one.ids() == reader.vocabularies[name].to_pylist()
            assert fitted.growing[name].windows == window + 1
            assert fitted.counts[name].tolist() == [one.count.get(id_, 0) for id_ in one.ids()]
        assert fitted.table_rows["item"] == 32 and fitted.table_rows["word"] == 10
        assert fitted.vocabularies["city"].equals(cities), "a table without grow stays as it was"
    assert not set(plain["item"].ids()) & set(range(6)) and plain["word"].ids()[0] != "w0", "what came has gone"


def test_only_what_has_grown_is_looked_up_anew(tmp_path):
    for window in (0, 1):
        write(tmp_path / f"{window}.parquet", window)
    fitted = fit(SCHEMA, str(tmp_path / "0.parquet"))
    before = row_maps(SCHEMA, fitted)
    assert all(map_ is before[name] for name, map_ in row_maps(SCHEMA, fitted).items())
    fitted, changes = admit(SCHEMA, fitted, count_window(SCHEMA, open_source(str(tmp_path / "1.parquet"))))
    after = row_maps(SCHEMA, fitted)
    assert {name for name in after if after[name] is not before[name]} == {"item", "word"}
    id_, row = changes["item"].ids[0].as_py(), int(changes["item"].rows[0])
    assert (before["item"].row_of_int(id_), after["item"].row_of_int(id_)) == (1, row)


def test_nothing_depends_on_the_number_of_threads(tmp_path):
    write(tmp_path / "0.parquet", 0)
    one, four = (fit(SCHEMA, str(tmp_path), workers) for workers in (1, 4))
    assert one.vocabularies == four.vocabularies
    assert one.growing["item"].waiting.ids.equals(four.growing["item"].waiting.ids)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows, waiting: (rows.set_column(2, "seen", pa.array([5] * 30)), waiting), "contradict each other"),
        (lambda rows, waiting: (rows.slice(1), waiting), "one was cut short"),
        (lambda rows, waiting: (rows, waiting.set_column(0, "id", pa.nulls(len(waiting), pa.int64()))), "contradict"),
        (lambda rows, waiting: (rows.set_column(1, "count", pa.array(["x"] * 30)), waiting), "is no vocabulary"),
        (lambda rows, waiting: (rows.drop_columns("seen"), waiting), "seen"),
    ],
)
def test_a_saved_vocabulary_that_was_changed_is_refused(tmp_path, change, message):
    write(tmp_path / "0.parquet", 0)
    fit(SCHEMA, str(tmp_path / "0.parquet")).save(tmp_path / "saved")
    files = [tmp_path / "saved" / name for name in ("item.parquet", waiting_file("item.parquet"))]
    tables = [pq.read_table(file) for file in files]
    assert len(tables[1]) > 0
    for file, table in zip(files, change(*tables), strict=True):
        pq.write_table(table, file)
    with pytest.raises(DamagedError, match=message):
        Fitted.load(tmp_path / "saved")


def test_a_saved_vocabulary_without_its_waiting_ids_is_refused(tmp_path):
    write(tmp_path / "0.parquet", 0)
    fit(SCHEMA, str(tmp_path / "0.parquet")).save(tmp_path / "saved")
    (tmp_path / "saved" / "item.waiting.parquet").unlink()
    with pytest.raises(DamagedError, match=r"item\.waiting\.parquet"):
        Fitted.load(tmp_path / "saved")
