"""Arrow types as text and back."""

from __future__ import annotations

import pyarrow as pa
import pytest

from interformer_rec.data.files.type_names import type_of, type_text

SINGLE = [
    *(pa.null(), pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    *(pa.float16(), pa.float32(), pa.float64(), pa.string(), pa.large_string(), pa.string_view(), pa.binary()),
    *(pa.large_binary(), pa.date32(), pa.date64(), pa.timestamp("s"), pa.timestamp("ns", "Europe/Berlin")),
    *(pa.timestamp("us", "+02:00"), pa.decimal128(20, 0), pa.decimal128(9, -2), pa.decimal256(60, 8)),
]  # fmt: skip
LISTS = [pa.list_, pa.large_list, lambda type_: pa.list_(type_, 3)]


@pytest.mark.parametrize("type_", [*SINGLE, *(make(type_) for make in LISTS for type_ in SINGLE)], ids=str)
def test_a_type_is_read_back(type_):
    assert type_of(type_text(type_)).equals(type_)


def test_how_values_are_stored_is_left_out():
    assert type_text(pa.dictionary(pa.int8(), pa.string())) == "string"
    assert type_text(pa.list_(pa.field("x", pa.dictionary(pa.int32(), pa.int64()), nullable=False))) == "list<int64>"


@pytest.mark.parametrize(
    "type_", [pa.struct([("a", pa.int8())]), pa.duration("s"), pa.list_(pa.list_(pa.int8()))], ids=str
)
def test_a_type_that_no_feature_has_is_no_text(type_):
    assert type_text(type_) is None


@pytest.mark.parametrize(
    "text",
    ["", "int65", "list<>", "list<int8", "list<int8>[3]", "fixed_size_list<int8>", "list<list<int8>>", "list<" * 10_000,
     "decimal128(99, 0)", "timestamp[us, tz=]", "struct<a: int8>"],
)  # fmt: skip
def test_other_text_is_refused(text):
    with pytest.raises(ValueError):
        type_of(text)
