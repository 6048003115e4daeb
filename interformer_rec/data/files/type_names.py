"""Arrow types of columns as text in a file, and back. In: a type of numbers, text, times, or lists of these; out: int64, list<string>, ...

How values are stored is left out: a dictionary is written as the type of its values, and lists have no field names.
"""

import re

import pyarrow as pa

from interformer_rec.data.files.unify import bare

_PLAIN = {
    str(type_): type_
    for type_ in (
        *(pa.null(), pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64()),
        *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(), pa.float16(), pa.float32(), pa.float64()),
        *(pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view()),
        *(pa.date32(), pa.date64(), *(pa.timestamp(unit) for unit in ("s", "ms", "us", "ns"))),
    )
}
_ZONED = re.compile(r"timestamp\[(s|ms|us|ns), tz=([^\]]{1,100})\]")
_DECIMAL = re.compile(r"(decimal(?:32|64|128|256))\((\d{1,2}), (-?\d{1,2})\)")
_LIST = re.compile(r"(list|large_list|fixed_size_list)<([^<>]*)>(?:\[(\d{1,9})\])?")


def type_text(type_: pa.DataType) -> str | None:
    """The text of a type; None for a type that no feature has (structs, maps, lists of lists, durations, ...)."""
    type_ = bare(type_)
    if pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_):
        inside = _text(bare(type_.value_type))
        if inside is None:
            return None
        if pa.types.is_fixed_size_list(type_):
            return f"fixed_size_list<{inside}>[{type_.list_size}]"
        return f"{'list' if pa.types.is_list(type_) else 'large_list'}<{inside}>"
    return _text(type_)


def _text(type_: pa.DataType) -> str | None:
    text = str(type_)
    return text if text in _PLAIN or _ZONED.fullmatch(text) or _DECIMAL.fullmatch(text) else None


def type_of(text: str) -> pa.DataType:
    """The inverse of `type_text`. Raises ValueError for other text."""
    lists = _LIST.fullmatch(text)
    if lists is None:
        return _plain(text)
    layout, inside, size = lists[1], _plain(lists[2]), lists[3]
    if (size is not None) != (layout == "fixed_size_list"):
        raise _unknown(text)
    if size is not None:
        return pa.list_(inside, int(size))
    return pa.list_(inside) if layout == "list" else pa.large_list(inside)


def _plain(text: str) -> pa.DataType:
    if text in _PLAIN:
        return _PLAIN[text]
    if zoned := _ZONED.fullmatch(text):
        return pa.timestamp(zoned[1], zoned[2])
    if decimal := _DECIMAL.fullmatch(text):
        return getattr(pa, decimal[1])(int(decimal[2]), int(decimal[3]))
    raise _unknown(text)


def _unknown(text: str) -> ValueError:
    return ValueError(f"{text!r:.100} is no type of a feature's column")
