"""What a column's values are as ids: integers of 64 bits, or strings. In: columns in Arrow's types; out: numpy arrays, masks, dictionaries.

| Arrow type | id |
|---|---|
| integers, booleans | the integer; an unsigned one of 2^63 and up is the int64 of the same 64 bits |
| decimals | the integer it equals; one with a fraction or beyond 64 bits is no id |
| dates | days since 1970-01-01 |
| timestamps | microseconds since 1970-01-01 UTC; one that is no whole number of them, or beyond 64 bits, is no id |
| strings, binary, dictionaries of these | the bytes, which must be UTF-8 |
"""

from decimal import Decimal
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from interformer_rec.data.decode.arrays import Mask, flat
from interformer_rec.data.files.unify import is_bytes, is_text

PER_MICROSECOND = {"s": (1_000_000, 1), "ms": (1000, 1), "us": (1, 1), "ns": (1, 1000)}  # times, divided by
DAY = 86_400_000  # milliseconds
NULL_KIND = "null"


def id_kind(type_: pa.DataType) -> str | None:
    """The sort of ids a type holds: integer, date, timestamp, string or, if it holds nothing, null; None for what is no id.

    Ids of one kind may share a table: equal ids get the same row in all types of the kind."""
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    if pa.types.is_integer(type_) or pa.types.is_boolean(type_) or pa.types.is_decimal(type_):
        return "integer"
    if is_text(type_) or is_bytes(type_):
        return "string"
    named = {"date": pa.types.is_date, "timestamp": pa.types.is_timestamp, NULL_KIND: pa.types.is_null}
    return next((kind for kind, holds in named.items() if holds(type_)), None)


class Integers(NamedTuple):
    """Ids as integers; what stands at a null or a wrong one is arbitrary."""

    values: np.ndarray
    null: Mask
    wrong: Mask  # values that are no integer of 64 bits
    what: str  # is wrong with those


class Strings(NamedTuple):
    """Ids of one chunk as strings: distinct ones, and an index per value that is valid at a null or a wrong one too."""

    distinct: pa.Array  # may hold strings that no value uses; without nulls
    indices: np.ndarray
    null: Mask
    wrong: Mask  # values that are not UTF-8


NOT_UTF8 = "an id that is not valid UTF-8"


def integers(column: pa.ChunkedArray) -> Integers:
    """The ids of a column that holds no strings."""
    type_ = column.type
    if pa.types.is_dictionary(type_):
        return integers(column.cast(type_.value_type))
    if pa.types.is_decimal(type_):
        return _decimals(column)
    if pa.types.is_timestamp(type_):
        return _timestamps(column)
    if pa.types.is_date(type_):
        column = column.cast(pa.int32() if pa.types.is_date32(type_) else pa.int64())
    values, null = flat(column)
    if pa.types.is_date64(type_):
        values = values // DAY
    if values.dtype.kind in "bf":  # of booleans or of the null type
        values = values.astype(np.int8)
    return Integers(values.view(np.int64) if values.dtype == np.uint64 else values, null, None, "")


def strings(column: pa.ChunkedArray) -> list[Strings]:
    """The ids of a column of strings, chunk by chunk."""
    out = []
    for chunk in column.chunks:
        if not pa.types.is_dictionary(chunk.type):
            chunk = _sortable(chunk).dictionary_encode()
        distinct, indices = chunk.dictionary, chunk.indices
        null = chunk.is_null().to_numpy(zero_copy_only=False) if chunk.null_count or distinct.null_count else None
        if distinct.null_count:
            distinct = pc.fill_null(distinct, b"" if is_bytes(distinct.type) else "")
        if indices.null_count:
            indices = indices.fill_null(0)
        places = indices.to_numpy()
        distinct, invalid = _utf8(distinct)
        out.append(Strings(distinct, places, null, None if invalid is None else np.append(invalid, False).take(places)))
    return out


def _sortable(chunk: pa.Array) -> pa.Array:
    """Views have no dictionary_encode in some releases."""
    if pa.types.is_binary_view(chunk.type):
        return chunk.cast(pa.large_binary())
    return chunk.cast(pa.large_string()) if pa.types.is_string_view(chunk.type) else chunk


def _utf8(distinct: pa.Array) -> tuple[pa.Array, Mask]:
    """As strings that are UTF-8, and a mask of those that were not and are now empty; None: all were."""
    try:
        if is_bytes(distinct.type):
            return distinct.cast(pa.large_string()), None
        distinct.validate(full=True)
        return distinct, None
    except pa.ArrowInvalid:
        texts = [_decoded(text) for text in distinct.cast(pa.large_binary()).to_pylist()]
        return pa.array([text or "" for text in texts], pa.large_string()), np.array([text is None for text in texts])


def _decoded(text: bytes) -> str | None:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return None


def _decimals(column: pa.ChunkedArray) -> Integers:
    for type_ in (pa.int64(), pa.uint64()):
        try:
            return integers(column.cast(type_))
        except pa.ArrowInvalid:
            continue
    values, wrong = np.zeros(len(column), np.int64), np.zeros(len(column), bool)
    for place, value in enumerate(column.to_pylist()):
        number = _integer(value)
        if number is None:
            wrong[place] = value is not None
        else:
            values[place] = number
    null = column.is_null().to_numpy() if column.null_count else None
    return Integers(values, null, wrong if wrong.any() else None, "an id that is not an integer of 64 bits")


def _integer(value: Decimal | None) -> int | None:
    if value is None or value != value.to_integral_value() or not -(2**63) <= value < 2**64:
        return None
    return (int(value) + 2**63) % 2**64 - 2**63


def _timestamps(column: pa.ChunkedArray) -> Integers:
    values, null = flat(column.cast(pa.int64()))
    times, over = PER_MICROSECOND[column.type.unit]
    if over > 1:
        wrong = values % over != 0
        values = values // over
    else:
        wrong = np.abs(values // 2) > (2**62 // times)
        values = values * times
    what = "an id that is not a whole number of microseconds within 64 bits since 1970"
    return Integers(values, null, wrong if wrong.any() else None, what)
