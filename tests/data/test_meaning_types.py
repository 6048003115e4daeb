"""Pairs of Arrow types: a file is refused, or its ids read the rows that the same values had in training."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.decode.kinds import value_kind
from interformer_rec.data.fit import fit
from interformer_rec.errors import InputError
from tests.data.samples import loader_of

INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
STRINGS = [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()]
ONES = pa.array([1, 0, 1])  # what a boolean can be, too
ARRAYS = {
    **{str(type_): ONES.cast(type_) for type_ in [*INTEGERS, pa.bool_()]},
    **{str(type_): pa.array(["1", "0", "1"]).cast(type_) for type_ in STRINGS},
    "dictionary of strings": pa.array(["1", "0", "1"]).dictionary_encode(),
    "dictionary of integers": ONES.dictionary_encode(),
    "decimal": pa.array([Decimal(1), Decimal(0), Decimal(1)], pa.decimal128(9, 2)),
    "date32": ONES.cast(pa.int32()).cast(pa.date32()),
    "date64": ONES.cast(pa.int32()).cast(pa.date32()).cast(pa.date64()),
    "timestamp[s]": ONES.cast(pa.timestamp("s")),
    "timestamp[ms]": ONES.cast(pa.timestamp("s")).cast(pa.timestamp("ms")),
    "timestamp[us]": ONES.cast(pa.timestamp("s")).cast(pa.timestamp("us")),
    "timestamp[ns]": ONES.cast(pa.timestamp("s")).cast(pa.timestamp("ns")),
}
TRAINED = ["int64", "uint8", "bool", "decimal", "string", "dictionary of strings", "date32", "timestamp[ns]"]
SAME = {"integer": 11, "string": 5, "date": 2, "timestamp": 4}  # how many of them are of a kind


def schema(ids: str) -> FeatureSchema:
    table = {"ids": ids} if ids == "vocab" else {"ids": ids, "num_embeddings": 2_000_000}
    group = {"name": "hist", "max_length": 3, "columns": [{"name": "id", "column": "past", "table": "id"}]}
    return FeatureSchema.model_validate(
        {"tables": {"id": table, "one": table}, "ids": ["id", "one"], "sequences": [group], "labels": ["y"]}
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("types")
    for number, (_, array) in enumerate(ARRAYS.items()):
        plain = array.cast(array.type.value_type) if pa.types.is_dictionary(array.type) else array
        past = pa.ListArray.from_arrays(pa.array([0, 1, 1, 3], pa.int32()), plain)
        pq.write_table(
            pa.table({"id": array, "one": array, "past": past, "y": [0, 1, 0]}), folder / f"{number}.parquet"
        )
    return {name: str(folder / f"{number}.parquet") for number, name in enumerate(ARRAYS)}


@pytest.mark.parametrize("ids", ["hash", "vocab", "identity"])
@pytest.mark.parametrize("trained", TRAINED)
def test_a_pair_is_refused_or_reads_the_same_rows(files, ids, trained):
    features, kind = schema(ids), value_kind(ARRAYS[trained].type)
    if ids == "identity" and kind == "string":
        with pytest.raises(InputError, match="identity"):
            fit(features, files[trained])
        return
    fitted = fit(features, files[trained])
    expected, same = rows(files[trained], features, fitted), 0
    for other, file in files.items():
        if value_kind(ARRAYS[other].type) == kind:
            assert rows(file, features, fitted) == expected, other
            same += 1
            continue
        with pytest.raises(InputError, match=rf"column 'id' of '{file}'") as caught:
            loader_of(file, features, fitted, batch_size=3)
        if ids != "identity":  # there a string is refused before it is compared
            theirs = value_kind(ARRAYS[other].type)
            assert f"holds {theirs} values" in str(caught.value) and f"trained on {kind} values" in str(caught.value)
    assert same == SAME[kind]


def rows(file: str, features: FeatureSchema, fitted) -> tuple[list[int], list[int]]:
    ((batch, _),) = loader_of(file, features, fitted, batch_size=3).batches()
    return batch.sparse.values().tolist(), batch.sequences.values().tolist()
