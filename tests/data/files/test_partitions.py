"""Columns from the names of folders."""

from __future__ import annotations

import pyarrow as pa
import pytest

from interformer_rec.data.files.partitions import NULL, keys_of, partition_types, partition_value


def test_keys_below_the_base_and_right_above_it():
    files = [
        "/exp=9/data/day=2024-01-05/hour=07/a.parquet",
        "/exp=9/data/day=2024-01-06/b.parquet",
        "/exp=9/data/c.parquet",
    ]
    assert keys_of(files, "/exp=9/data") == ({"day": "2024-01-05", "hour": "07"}, {"day": "2024-01-06"}, {})
    assert keys_of(files[:1], "/exp=9/data/day=2024-01-05/hour=07") == ({"day": "2024-01-05", "hour": "07"},)
    assert keys_of(["x=1.parquet"], "") == ({},)


def test_names_are_decoded_and_hives_null_is_a_null():
    (keys,) = keys_of([f"d/a%20b=x%2Fy%3D1/day={NULL}/empty=/a.parquet"], "d")
    assert keys == {"a b": "x/y=1", "day": None, "empty": ""}


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        (["1", "-2", "007"], pa.int64()),
        (["1", None], pa.int64()),
        (["1", "a"], pa.string()),
        (["1", ""], pa.string()),
        (["1.0"], pa.string()),
        ([str(2**63)], pa.string()),
        ([None], pa.null()),
    ],
    ids=str,
)
def test_a_key_has_one_type_over_all_files(values, type_):
    assert partition_types([{"k": value} for value in values]) == {"k": type_}
    assert [partition_value(value, type_).as_py() for value in values] == [
        int(value) if value is not None and type_ == pa.int64() else value for value in values
    ]
