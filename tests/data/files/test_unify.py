"""The widest type of a column over files, value for value."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest

from interformer_rec.data.files.unify import agrees, cast, encoded, leaves, widest

NONE = pa.null()
WIDEST = [
    (pa.int8(), pa.int32(), pa.int32()),
    (pa.uint8(), pa.uint64(), pa.uint64()),
    (pa.int8(), pa.uint8(), pa.int16()),
    (pa.int64(), pa.uint32(), pa.int64()),
    (pa.int8(), pa.uint64(), pa.decimal128(20, 0)),
    (pa.bool_(), pa.int8(), pa.int8()),
    (pa.bool_(), pa.float32(), pa.float32()),
    (pa.float16(), pa.float32(), pa.float32()),
    (pa.int64(), pa.float32(), pa.float64()),
    (pa.decimal128(5, 2), pa.decimal128(9, 4), pa.decimal128(9, 4)),
    (pa.decimal128(5, 2), pa.int64(), pa.decimal128(21, 2)),
    (pa.decimal128(30, 20), pa.decimal128(38, 0), pa.decimal256(58, 20)),
    (pa.decimal128(5, 2), pa.float32(), pa.float64()),
    (pa.string(), pa.dictionary(pa.int8(), pa.string()), pa.string()),
    (pa.string(), pa.large_string(), pa.large_string()),
    (pa.string(), pa.string_view(), pa.large_string()),
    (pa.string(), pa.binary(), pa.binary()),
    (pa.date32(), pa.date64(), pa.date32()),
    (pa.timestamp("ms"), pa.timestamp("us", "UTC"), pa.timestamp("us", "UTC")),
    (pa.list_(pa.int32()), pa.large_list(pa.int64()), pa.large_list(pa.int64())),
    (pa.list_(pa.int32(), 3), pa.list_(pa.int64(), 3), pa.list_(pa.int64(), 3)),
    (pa.list_(pa.int32(), 3), pa.list_(pa.int64()), pa.large_list(pa.int64())),
    (pa.list_(pa.field("element", pa.int8(), nullable=False)), pa.list_(pa.int8()), pa.list_(pa.int8())),
    (pa.list_(NONE), pa.list_(pa.string()), pa.list_(pa.string())),
    (pa.struct([("a", pa.int8())]), pa.struct([("a", pa.int32())]), pa.struct([("a", pa.int32())])),
    (pa.map_(pa.string(), pa.int8()), pa.map_(pa.string(), pa.int16()), pa.map_(pa.string(), pa.int16())),
]
CONFLICTS = [
    (pa.int64(), pa.string()),
    (pa.int64(), pa.list_(pa.int64())),
    (pa.list_(pa.int64()), pa.list_(pa.string())),
    (pa.int64(), pa.timestamp("us")),
    (pa.date32(), pa.timestamp("us")),
    (pa.bool_(), pa.string()),
    (pa.decimal256(76, 0), pa.decimal256(76, 40)),
    (pa.struct([("a", pa.int8())]), pa.struct([("b", pa.int8())])),
]


@pytest.mark.parametrize(("a", "b", "expected"), WIDEST, ids=str)
def test_the_widest_type_in_both_orders_and_beside_nulls(a, b, expected):
    assert widest(a, b) == widest(b, a) == expected
    assert widest(expected, expected) == widest(expected, NONE) == widest(NONE, expected) == expected


@pytest.mark.parametrize(("a", "b"), CONFLICTS, ids=str)
def test_what_differs_in_meaning_has_no_common_type(a, b):
    assert widest(a, b) is None and widest(b, a) is None


VALUES = [
    (pa.int64(), [-(2**63), None], pa.decimal128(20, 0), [Decimal(-(2**63)), None]),
    (pa.uint64(), [2**64 - 1], pa.decimal128(20, 0), [Decimal(2**64 - 1)]),
    (pa.bool_(), [True, None], pa.decimal128(5, 2), [Decimal(1), None]),
    (pa.int64(), [2**60 + 1], pa.float64(), [float(2**60)]),
    (pa.float16(), [1.5], pa.float64(), [1.5]),
    (pa.list_(pa.int32(), 2), [[1, 2], None], pa.large_list(pa.int64()), [[1, 2], None]),
    (pa.list_(NONE), [[None], []], pa.list_(pa.string()), [[None], []]),
    (NONE, [None], pa.large_list(pa.string()), [None]),
    (pa.timestamp("s"), [1], pa.timestamp("us", "UTC"), [1_000_000]),
]


@pytest.mark.parametrize(("of", "values", "type_", "expected"), VALUES, ids=str)
def test_casting_keeps_every_value(of, values, type_, expected):
    done = cast(pa.chunked_array([pa.array(values, of)]), type_)
    assert done.type == type_
    assert (done.cast(pa.int64()) if pa.types.is_timestamp(type_) else done).to_pylist() == expected


def test_an_integer_that_a_float_would_round_fits_only_where_nobody_asks_for_it():
    with pytest.raises(pa.ArrowInvalid):
        cast(pa.chunked_array([[2**60 + 1]]), pa.float64(), exact=True)


@pytest.mark.parametrize(
    ("values", "value", "expected"),
    [
        (pa.array([5, 5], pa.int8()), pa.scalar(5), True),
        (pa.array([5, 6], pa.int8()), pa.scalar(5), False),
        (pa.array([5, None]), pa.scalar(5), False),
        (pa.array([None, None], pa.int8()), pa.scalar(None, pa.int64()), True),
        (pa.array([5], pa.int8()), pa.scalar(None, pa.int64()), False),
        (pa.array(["a"]).dictionary_encode(), pa.scalar("a"), True),
        (pa.array([19_000], pa.date32()), pa.scalar("2022-01-08"), True),
        (pa.array([19_001], pa.date32()), pa.scalar("2022-01-08"), False),
        (pa.array([1]), pa.scalar("a"), False),
    ],
    ids=str,
)
def test_a_column_agrees_with_its_folder(values, value, expected):
    assert agrees(pa.chunked_array([values]), value) is expected


def test_strings_as_dictionaries_and_parquet_columns_of_a_type():
    strings = pa.dictionary(pa.int32(), pa.string())
    assert encoded(pa.large_string()) == strings and encoded(pa.int8()) == pa.int8()
    assert encoded(pa.list_(pa.string())) == pa.large_list(strings)
    nested = pa.struct([("a", pa.list_(pa.int8())), ("b", pa.map_(pa.string(), pa.struct([("c", pa.int8())])))])
    assert [leaves(type_) for type_ in (pa.int8(), strings, nested)] == [1, 1, 3]
