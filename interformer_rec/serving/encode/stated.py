"""Rows of files as a request states them. In: an Arrow table and the signature's types; out: objects as JSON can hold them.

For golden requests and examples: `Encoder.score` reads such an object as the training Decoder reads the row.
"""

import contextlib
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from interformer_rec.data.decode.arrays import is_list
from interformer_rec.data.files.unify import bare, cast
from interformer_rec.serving.encode.side import element_type


def stated(table: pa.Table, types: Mapping[str, pa.DataType]) -> list[dict[str, Any]]:
    """An object a row, with the columns of `types` (Signature.types), each written as that type is."""
    columns = [_values(table[name], type_) for name, type_ in types.items()]
    return [dict(zip(types, row, strict=True)) for row in zip(*columns, strict=True)]


def _values(column: pa.ChunkedArray, type_: pa.DataType) -> list[Any]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(bare(column.type))
    with contextlib.suppress(pa.ArrowException):  # a value that training had no type for stays as it is
        column = cast(column, type_)
    inner = element_type(column.type)
    write = _writer(inner)
    if pa.types.is_timestamp(inner):  # Python's times have no nanoseconds
        column = column.cast(pa.list_(pa.int64()) if is_list(column.type) else pa.int64())
    if not is_list(column.type):
        return [None if value is None else write(value) for value in column.to_pylist()]
    return [
        None if values is None else [None if value is None else write(value) for value in values]
        for values in column.to_pylist()
    ]


def _writer(type_: pa.DataType) -> Callable[[Any], Any]:
    """What JSON has for Python's value of an Arrow type; a timestamp is its count of units."""
    if pa.types.is_timestamp(type_):
        zone = "Z" if type_.tz is not None else ""
        return lambda value: f"{np.datetime64(value, type_.unit)}{zone}"
    if pa.types.is_date(type_):
        return lambda value: value.isoformat()
    if pa.types.is_decimal(type_):
        return _number
    if pa.types.is_binary(type_) or pa.types.is_large_binary(type_) or pa.types.is_binary_view(type_):
        return lambda value: value.decode()
    return lambda value: value


def _number(value: Decimal) -> int | float:
    whole = int(value)
    return whole if whole == value else float(value)
