"""What is learned from the training files."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.config.features import FeatureSchema
from interformer_rec.data import counts as counts_module
from interformer_rec.data.files import footer, whole
from interformer_rec.data.files.source import Source
from interformer_rec.data.fit import Fitted, fit
from interformer_rec.errors import DamagedError, InputError
from tests.data.samples import every_kind, every_kind_rows


def schema(**changes) -> FeatureSchema:
    base = {"tables": {"item": {}}, "ids": ["item"], "labels": ["click"]}
    return FeatureSchema.model_validate({**base, **changes})


def random_rows(count: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 6, count)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    past = pa.ListArray.from_arrays(offsets, pa.array(rng.integers(0, 40, offsets[-1]) * 10**15))
    words = pa.array([f"w{i}" for i in rng.zipf(1.5, count) % 50])
    item = pa.array(rng.integers(0, 40, count) * 10**15, mask=rng.random(count) < 0.1)
    price = pa.array(rng.lognormal(3, 1, count), mask=rng.random(count) < 0.1)
    columns = {"item": item, "word": words, "past": past, "price": price, "click": np.zeros(count)}
    return pa.table(columns)


WIDE = schema(
    tables={"item": {}, "word": {"min_count": 3, "num_embeddings": 20}},
    ids=["item", "word"],
    dense=[{"name": "price", "fill": 5.0, "log1p": True, "clip": [1, 100], "standardise": True}],
    sequences=[{"name": "past", "max_length": 3, "columns": [{"name": "item", "column": "past"}]}],
)


def counted(values: list) -> list[tuple]:
    """(value, count) by falling count, then rising value: in plain Python."""
    seen: dict = {}
    for value in values:
        if value is not None:
            seen[value] = seen.get(value, 0) + 1
    return sorted(seen.items(), key=lambda item: (-item[1], item[0]))


@pytest.mark.parametrize("merge", [1, 1 << 20])
def test_counts_merge_over_all_features_of_a_table_and_sort_by_count_then_id(tmp_path, monkeypatch, merge):
    monkeypatch.setattr(counts_module, "MERGE", merge)
    table = random_rows(500, 0)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=70)
    fitted = fit(WIDE, str(tmp_path))
    columns = table.to_pydict()
    items = counted(columns["item"] + [event for row in columns["past"] for event in row])
    assert fitted.vocabularies["item"].to_pylist() == [id_ for id_, _ in items]
    assert fitted.counts["item"].tolist() == [count for _, count in items]
    words = [(word, count) for word, count in counted(columns["word"]) if count >= 3][:20]
    assert fitted.vocabularies["word"].to_pylist() == [word for word, _ in words]
    assert fitted.table_rows == {"item": 2 + len(items), "word": 2 + len(words)}


def test_moments_are_those_of_the_transformed_column(tmp_path):
    table = random_rows(500, 1)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=33)
    moments = fit(WIDE, str(tmp_path)).moments["price"]
    price = np.array([5.0 if value is None else value for value in table["price"].to_pylist()])
    expected = np.log1p(np.clip(price, 1, 100))
    assert moments == pytest.approx((expected.mean(), expected.std()), rel=1e-12)


def test_the_result_does_not_depend_on_files_their_order_or_workers(tmp_path):
    table = random_rows(400, 2)
    for name, pieces in {"one": [(0, 400)], "many": [(300, 100), (0, 150), (150, 150)]}.items():
        (tmp_path / name).mkdir()
        for number, (start, length) in enumerate(pieces):
            piece = table.slice(start, length)
            pq.write_table(piece, tmp_path / name / f"{number}.parquet", row_group_size=60 + number)
    first = fit(WIDE, str(tmp_path / "one"), workers=1)
    for other in (fit(WIDE, str(tmp_path / "one"), workers=4), fit(WIDE, str(tmp_path / "many"), workers=3)):
        assert other.table_rows == first.table_rows
        assert all(other.vocabularies[name].equals(ids) for name, ids in first.vocabularies.items())
        assert other.moments["price"] == pytest.approx(first.moments["price"], rel=1e-12)


def test_saved_and_loaded_it_is_the_same(tmp_path):
    pq.write_table(every_kind_rows(), tmp_path / "a.parquet")
    fitted = fit(every_kind(), str(tmp_path / "a.parquet"))
    fitted.save(tmp_path / "run" / "fitted")
    loaded = Fitted.load(tmp_path / "run" / "fitted")
    assert loaded.table_rows == fitted.table_rows == {"item": 5, "city": 3, "hour": 25, "user": 1001, "tag": 4}
    assert loaded.moments == fitted.moments and list(loaded.moments) == ["height"]
    assert loaded.meaning == fitted.meaning and loaded.meaning.features == every_kind()
    assert all(loaded.vocabularies[n].equals(ids) for n, ids in fitted.vocabularies.items())
    assert all(np.array_equal(loaded.counts[n], counts) for n, counts in fitted.counts.items())


def test_saved_again_it_is_a_new_file_and_not_the_old_one_cut_short(tmp_path):
    for number, items in enumerate(([1, 1, 2], [3, 4, 5, 5])):
        pq.write_table(pa.table({"item": items}), tmp_path / f"{number}.parquet")
    features = schema(ids=["item"])
    fit(features, str(tmp_path / "0.parquet")).save(tmp_path / "f")
    (file,) = (tmp_path / "f").glob("*.parquet")
    (tmp_path / "kept").hardlink_to(file)
    fit(features, str(tmp_path / "1.parquet")).save(tmp_path / "f")
    assert pq.read_table(tmp_path / "kept")["id"].to_pylist() == [1, 2]
    assert Fitted.load(tmp_path / "f").vocabularies["item"].to_pylist() == [5, 3, 4]


def test_names_that_are_no_file_names_can_be_saved(tmp_path):
    features = schema(tables={"a/b ü": {}}, ids=[{"name": "item", "table": "a/b ü"}])
    pq.write_table(pa.table({"item": [1, 1, 2]}), tmp_path / "a.parquet")
    fit(features, str(tmp_path / "a.parquet")).save(tmp_path / "f")
    assert Fitted.load(tmp_path / "f").vocabularies["a/b ü"].to_pylist() == [1, 2]


@pytest.mark.parametrize("name", ["用户编号" * 30, "a" * 900, "ü" * 60, "é/" * 90])
def test_tables_of_any_name_have_files_of_bounded_names(tmp_path, name):
    """Bytes of a file's name are limited to 255 almost everywhere, and three letters stand for a byte that is quoted."""
    tables = {f"{name}1": {}, f"{name}2": {}}
    ids = [{"name": table, "column": "item", "table": table} for table in tables]
    pq.write_table(pa.table({"item": [1, 1, 2]}), tmp_path / "a.parquet")
    fit(schema(tables=tables, ids=ids), str(tmp_path / "a.parquet")).save(tmp_path / "f")
    assert len(list((tmp_path / "f").glob("*.parquet"))) == 2
    loaded = Fitted.load(tmp_path / "f").vocabularies
    assert {table: ids.to_pylist() for table, ids in loaded.items()} == {table: [1, 2] for table in tables}


@pytest.mark.parametrize("groups", [1, 8])
def test_a_vocabulary_that_decodes_to_far_more_than_it_stores_is_damaged(tmp_path, monkeypatch, groups):
    """A checkpoint of somebody else's may hold one; several row groups count in sum."""
    pq.write_table(pa.table({"item": ["a", "b"]}), tmp_path / "a.parquet")
    fit(schema(), str(tmp_path / "a.parquet")).save(tmp_path / "f")
    for module in (footer, whole):
        monkeypatch.setattr(module, "SUSPICIOUS", 8 << 20)
        monkeypatch.setattr(module, "OUT_OF_PROPORTION", 10)
    rows = 24_000
    table = pa.table({"id": ["x" * 1000] * rows, "count": np.ones(rows, np.int64)})
    pq.write_table(table, tmp_path / "f" / "item.parquet", compression="zstd", row_group_size=rows // groups)
    assert (tmp_path / "f" / "item.parquet").stat().st_size < 100_000
    with pytest.raises(DamagedError, match=r"item\.parquet.*(too large|would be more than 8,388,608 bytes in memory)"):
        Fitted.load(tmp_path / "f")


def test_a_vocabulary_without_any_id_is_kept(tmp_path):
    pq.write_table(pa.table({"item": [1, 2]}), tmp_path / "a.parquet")
    fit(schema(tables={"item": {"min_count": 9}}), str(tmp_path / "a.parquet")).save(tmp_path / "f")
    assert len(Fitted.load(tmp_path / "f").vocabularies["item"]) == 0


def test_loading_half_a_folder_is_an_error(tmp_path):
    with pytest.raises(InputError, match="was the run cut short"):
        Fitted.load(tmp_path)
    pq.write_table(every_kind_rows(), tmp_path / "a.parquet")
    fit(every_kind(), str(tmp_path / "a.parquet")).save(tmp_path / "f")
    (tmp_path / "f" / "item.parquet").unlink()
    with pytest.raises(InputError, match=r"item\.parquet"):
        Fitted.load(tmp_path / "f")


def test_nothing_to_fit_reads_footers_only(tmp_path, monkeypatch):
    features = schema(tables={"item": {"ids": "hash", "num_embeddings": 10}})
    pq.write_table(pa.table({"item": ["a"], "click": [1]}), tmp_path / "a.parquet")
    monkeypatch.delattr(Source, "read")
    fitted = fit(features, str(tmp_path))
    assert fitted.table_rows == {"item": 11} and fitted.meaning.types == {"item": pa.string(), "click": pa.int64()}
    assert fitted.meaning.kinds == {"item": "string", "click": "number"}


def test_all_null_and_constant_columns(tmp_path):
    features = schema(dense=[{"name": "same", "standardise": True}, {"name": "none", "standardise": True}])
    columns = {"item": pa.nulls(3, pa.int64()), "same": [2.0] * 3, "none": pa.nulls(3, pa.float64())}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    fitted = fit(features, str(tmp_path))
    assert fitted.table_rows == {"item": 2} and fitted.moments == {"same": (2.0, 0.0), "none": (0.0, 0.0)}


def test_a_table_of_integers_and_strings_is_refused(tmp_path):
    features = schema(ids=["item", {"name": "word", "table": "item"}])
    pq.write_table(pa.table({"item": [1], "word": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"'item' would mix integers and strings: columns 'item' and 'word'"):
        fit(features, str(tmp_path))
