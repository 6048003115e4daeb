"""Every row is in one slice of a column, whatever its type."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa
import pytest

from interformer_rec.errors import InputError
from interformer_rec.explaining.slices import check_columns, cut

DAYS = [datetime.date(2024, 1, 1) + datetime.timedelta(days=number) for number in range(100)]


@pytest.mark.parametrize(
    "values, names",
    [
        (pa.array(["b", "a", None, "a"]), ["a", "b", "null"]),
        (pa.array(["b", "a", None, "a"]).dictionary_encode(), ["a", "b", "null"]),
        (pa.array([True, False, True]), ["True", "False"]),
        (pa.array([30, 10, 10, None]), ["10", "30", "null"]),
        (pa.array(range(100), pa.uint64()), ["0 to 19", "20 to 39", "40 to 59", "60 to 79", "80 to 99"]),
        (pa.array([0.5] * 50 + [*map(float, range(1, 51))]), ["0.5", "1 to 10", "11 to 30", "31 to 50"]),
        (pa.array([*range(30), *[50] * 70]), ["0 to 19", "20 to 29", "50"]),
        (pa.array([0.25, float("nan"), None, 3.0]), ["0.25", "3", "null"]),
        (pa.array([[1, 2], [], None, [3, 4]]), ["0", "2", "null"]),
        (pa.array(DAYS[:3]), ["2024-01-01", "2024-01-02", "2024-01-03"]),
        (pa.array(DAYS), [f"{DAYS[20 * n]} to {DAYS[20 * n + 19]}" for n in range(5)]),
        (pa.array([None, None]), ["null"]),
        (pa.array([None, None], pa.int64()), ["null"]),
        (pa.array([f"v{number % 25:02}" for number in range(99)]), [*(f"v{n:02}" for n in range(20)), "other (5 values)"]),
    ],
)  # fmt: skip
def test_slices_of_a_column(values, names):
    found = cut(pa.chunked_array([values[:1], values[1:]]))
    assert [name for name, _ in found] == names
    assert (np.sum([mask for _, mask in found], axis=0) == 1).all() and all(mask.any() for _, mask in found)


def test_columns_that_cannot_be_cut():
    check_columns(pa.schema([("a", pa.list_(pa.int64())), ("b", pa.timestamp("us")), ("c", pa.decimal128(9, 2))]))
    with pytest.raises(InputError, match="--slices d: the column holds struct<x: int64>"):
        check_columns(pa.schema([("d", pa.struct([("x", pa.int64())]))]))
