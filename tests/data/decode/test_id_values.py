"""Strings that are not UTF-8, in every place of an id: a bad row that names the place and is never counted, nor a crash."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.decode.id_values import id_kind
from interformer_rec.data.fit import fit
from interformer_rec.errors import InputError
from tests.data.samples import loader_of

GOOD = [b"a", b"", "é".encode(), b"b\x00c", "😀".encode(), b"long " * 100]
BAD = {"latin-1": b"caf\xe9", "surrogate": b"\xed\xa0\x80", "cut": "é".encode()[:1], "long": b"x" * 5000 + b"\xff"}


def strings(values: list, type_: pa.DataType) -> pa.Array:
    """As a column of this type, without Arrow's own checks (as Parquet writers of other languages do)."""
    bytes_ = pa.array(values, pa.binary())
    if type_ == pa.binary():
        return bytes_
    texts = pa.Array.from_buffers(pa.string(), len(bytes_), bytes_.buffers(), bytes_.null_count)
    return texts.dictionary_encode() if pa.types.is_dictionary(type_) else texts.cast(type_)


def write(path: Path, values: list, type_: pa.DataType, place: str, **options) -> str:
    column = strings(values, type_)
    if place != "id" and place != "group":
        column = pa.ListArray.from_arrays(pa.array(range(len(values) + 1), pa.int32()), column)
    pq.write_table(pa.table({"x": column, "n": range(len(values)), "y": [0] * len(values)}), path, **options)
    return str(path)


def features_of(place: str, ids: str) -> FeatureSchema:
    table = {"ids": ids, **({"num_embeddings": 1000} if ids == "hash" else {})}
    reader = {
        "id": {"ids": ["x"]},
        "bag": {"bags": ["x"]},
        "history": {"sequences": [{"name": "h", "max_length": 3, "columns": [{"name": "x", "column": "x"}]}]},
        "group": {"group": "x", "dense": ["n"], "tables": {}},
    }[place]
    return FeatureSchema.model_validate({"tables": {"x": table}, "labels": ["y"], **reader})


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("type_", [pa.string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())], ids=str)
@pytest.mark.parametrize(
    ("place", "ids"), [("id", "vocab"), ("id", "hash"), ("bag", "vocab"), ("history", "hash"), ("group", "vocab")]
)
def test_a_string_that_is_not_utf8_is_a_bad_row(tmp_path, kind, type_, place, ids):
    features = features_of(place, ids)
    good = write(tmp_path / "good.parquet", GOOD, pa.string(), place)
    path = write(tmp_path / "bad.parquet", [*GOOD, BAD[kind], None], type_, place, row_group_size=4)
    fitted, plain = fit(features, path), fit(features, good)
    assert fitted.table_rows == plain.table_rows
    message = (
        r"bad\.parquet', row group 1, row 6 of the file .*column 'x': an id that is not valid UTF-8; the value is b'"
    )
    with pytest.raises(InputError, match=message) as caught:
        list(loader_of(path, features, fitted, batch_size=100).batches())
    assert len(str(caught.value)) < 800
    loader = loader_of(path, features, fitted, batch_size=100, on_bad_row="skip")
    ((batch, _),) = loader.batches()
    assert batch.rows == 7 and loader.bad_rows == {"x: an id that is not valid UTF-8": 1}
    ((expected, _),) = loader_of(good, features, plain, batch_size=100).batches()
    for one, other in ((batch.sparse, expected.sparse), (batch.sequences, expected.sequences)):
        if len(one.keys()):
            assert one.values()[:6].tolist() == other.values().tolist()
    assert batch.groups[:6].tolist() == expected.groups.tolist()


def test_bytes_hash_like_the_string_that_they_are(tmp_path):
    features = features_of("id", "hash")
    rows = []
    for type_ in (pa.string(), pa.binary(), pa.large_binary(), pa.string_view(), pa.binary_view()):
        path = write(tmp_path / f"{type_}.parquet", GOOD, pa.binary(), "id") if "binary" in str(type_) else None
        path = path or write(tmp_path / f"{type_}.parquet", GOOD, type_, "id")
        ((batch, _),) = loader_of(path, features, fit(features, path), batch_size=100).batches()
        rows.append(batch.sparse.values().tolist())
    assert all(row == rows[0] for row in rows)


def test_the_kind_of_ids():
    kinds = {
        "integer": [pa.int8(), pa.uint64(), pa.bool_(), pa.decimal128(9, 2)],
        "string": [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int8(), pa.string())],
        "date": [pa.date32(), pa.date64()],
        "timestamp": [pa.timestamp("s"), pa.timestamp("ns", "UTC")],
        "null": [pa.null()],
        None: [pa.float32(), pa.list_(pa.int8()), pa.struct([("a", pa.int8())]), pa.time32("s"), pa.binary(16)],
    }
    assert {kind: {id_kind(type_) for type_ in types} for kind, types in kinds.items()} == {
        kind: {kind} for kind in kinds
    }


@pytest.mark.parametrize("value", [1e200, -1e200, 1e39, np.inf, np.nan])
@pytest.mark.parametrize("steps", [{}, {"clip": [-10, 10]}, {"log1p": True}], ids=str)
def test_a_number_that_float32_does_not_hold_is_no_part_of_the_moments(tmp_path, value, steps):
    """The row is blamed, not the first one for a deviation of NaN; clipped or as a logarithm a large number is fine."""
    features = FeatureSchema.model_validate(
        {"tables": {}, "dense": [{"name": "d", "standardise": True, **steps}], "labels": ["y"]}
    )
    numbers = [1.0, 2.0, 3.0, value, 4.0]
    path = str(tmp_path / "a.parquet")
    pq.write_table(pa.table({"d": numbers, "y": [0] * 5}), path, row_group_size=2)
    fitted = fit(features, path)
    fine = np.isfinite(value) and steps != {}
    kept = np.array(numbers if fine else [1.0, 2.0, 3.0, 4.0])
    kept = np.clip(kept, *steps["clip"]) if "clip" in steps else kept
    kept = np.copysign(np.log1p(np.abs(kept)), kept) if "log1p" in steps else kept
    assert fitted.moments["d"] == pytest.approx((kept.mean(), kept.std()))
    loader = loader_of(path, features, fitted, batch_size=10, on_bad_row="skip")
    ((batch, _),) = loader.batches()
    assert batch.dense[:, 0].tolist() == pytest.approx(((kept - kept.mean()) / kept.std()).tolist(), rel=1e-5)
    assert sum(loader.bad_rows.values()) == (0 if fine else 1)
    if not fine:
        with pytest.raises(
            InputError, match=r"a\.parquet', row group 1, row 3 of the file .*column 'd': .*; the value is "
        ):
            list(loader_of(path, features, fitted, batch_size=10).batches())
