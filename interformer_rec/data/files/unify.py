"""One type for a column that several files hold in several types. In: Arrow types and columns; out: the widest type, columns cast to it.

What tools differ in without a difference of meaning: "not null", widths of integers and floats, string, large_string and dictionary, list,
large_list and fixed_size_list, and a column without any value. What differs in meaning (integer and string, list and scalar) has no type.
"""

import pyarrow as pa
import pyarrow.compute as pc

DIGITS = {8: 3, 16: 5, 32: 10, 64: 19}  # of the largest integer of so many bits; an unsigned one of 64 has 20
MOST_DIGITS = 76  # of Arrow's decimals


def widest(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    """The narrowest type that holds every value of both, exactly but for integers among floats; None: there is none."""
    if a.equals(b):
        return a
    a, b = bare(a), bare(b)
    if a.equals(b) or pa.types.is_null(b):
        return a
    if pa.types.is_null(a):
        return b
    for suits, join in _JOINS:
        if suits(a) and suits(b):
            return join(a, b)
    return None


def cast(column: pa.ChunkedArray, type_: pa.DataType, exact: bool = False) -> pa.ChunkedArray:
    """A column in the type that `widest` found. Raises pa.ArrowException where a value does not fit; `exact`: an integer that a float
    would round does not fit."""
    if column.type.equals(type_):
        return column
    if pa.types.is_boolean(column.type) and pa.types.is_decimal(type_):
        column = column.cast(pa.int8())
    return column.cast(type_, safe=exact or not pa.types.is_integer(column.type) or not pa.types.is_floating(type_))


def is_any_list(type_: pa.DataType) -> bool:
    """Lists in any of Arrow's layouts."""
    return (
        pa.types.is_list(type_)
        or pa.types.is_large_list(type_)
        or pa.types.is_fixed_size_list(type_)
        or pa.types.is_list_view(type_)
        or pa.types.is_large_list_view(type_)
    )


def is_text(type_: pa.DataType) -> bool:
    """Strings in any of Arrow's layouts, but for dictionaries."""
    return pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_)


def is_bytes(type_: pa.DataType) -> bool:
    """Strings that no writer has called UTF-8, in any of Arrow's layouts."""
    return pa.types.is_binary(type_) or pa.types.is_large_binary(type_) or pa.types.is_binary_view(type_)


def bare(type_: pa.DataType) -> pa.DataType:
    """How a value is stored taken off: dictionaries, extensions."""
    if pa.types.is_dictionary(type_):
        return bare(type_.value_type)
    return bare(type_.storage_type) if isinstance(type_, pa.BaseExtensionType) else type_


def is_number(type_: pa.DataType) -> bool:
    """Integers, floats, decimals and booleans."""
    return (
        pa.types.is_boolean(type_)
        or pa.types.is_integer(type_)
        or pa.types.is_floating(type_)
        or pa.types.is_decimal(type_)
    )


def _numbers(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    if pa.types.is_boolean(a) or pa.types.is_boolean(b):
        return b if pa.types.is_boolean(a) else a
    if pa.types.is_floating(a) or pa.types.is_floating(b):
        floats = pa.types.is_floating(a) and pa.types.is_floating(b)
        return max((a, b), key=lambda type_: type_.bit_width) if floats else pa.float64()
    if pa.types.is_integer(a) and pa.types.is_integer(b):
        return _integers(a, b)
    scales, digits = zip(_scale_and_digits(a), _scale_and_digits(b), strict=True)
    scale, total = max(scales), max(scales) + max(digits)
    if total > MOST_DIGITS:
        return None
    return pa.decimal128(total, scale) if total <= 38 else pa.decimal256(total, scale)


def _integers(a: pa.DataType, b: pa.DataType) -> pa.DataType:
    if pa.types.is_signed_integer(a) == pa.types.is_signed_integer(b):
        return max((a, b), key=lambda type_: type_.bit_width)
    signed, unsigned = (a, b) if pa.types.is_signed_integer(a) else (b, a)
    bits = max(signed.bit_width, 2 * unsigned.bit_width)
    return {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}.get(bits, pa.decimal128(20, 0))


def _scale_and_digits(type_: pa.DataType) -> tuple[int, int]:
    """Digits after the point and before it."""
    if pa.types.is_decimal(type_):
        return max(type_.scale, 0), type_.precision - type_.scale
    return 0, DIGITS[type_.bit_width] + pa.types.is_uint64(type_)


def _strings(a: pa.DataType, b: pa.DataType) -> pa.DataType:
    large = any(not (pa.types.is_string(type_) or pa.types.is_binary(type_)) for type_ in (a, b))
    if is_text(a) and is_text(b):
        return pa.large_string() if large else pa.string()
    return pa.large_binary() if large else pa.binary()


def _times(a: pa.DataType, b: pa.DataType) -> pa.DataType:
    """The finer unit; a time without a zone is taken as UTC beside one that has a zone, as its writer counts it since 1970 too."""
    units = ("s", "ms", "us", "ns")
    zone = a.tz if a.tz == b.tz else "UTC"
    return pa.timestamp(max(a.unit, b.unit, key=units.index), zone)


def _lists(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    values = widest(a.value_type, b.value_type)
    if values is None:
        return None
    if pa.types.is_fixed_size_list(a) and pa.types.is_fixed_size_list(b) and a.list_size == b.list_size:
        return pa.list_(values, a.list_size)
    return pa.list_(values) if pa.types.is_list(a) and pa.types.is_list(b) else pa.large_list(values)


def _structs(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    if [field.name for field in a] != [field.name for field in b]:
        return None
    fields = [(one.name, widest(one.type, other.type)) for one, other in zip(a, b, strict=True)]
    return None if any(type_ is None for _, type_ in fields) else pa.struct(fields)


def _maps(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    keys, items = widest(a.key_type, b.key_type), widest(a.item_type, b.item_type)
    return None if keys is None or items is None else pa.map_(keys, items)


_JOINS = (
    (is_number, _numbers),
    (lambda type_: is_text(type_) or is_bytes(type_), _strings),
    (pa.types.is_date, lambda a, b: pa.date32()),
    (pa.types.is_timestamp, _times),
    (is_any_list, _lists),
    (pa.types.is_struct, _structs),
    (pa.types.is_map, _maps),
)


def agrees(column: pa.ChunkedArray, value: pa.Scalar) -> bool:
    """Does every row of a column hold this value (null: no value)? A value of another type is compared as the column's."""
    if not value.is_valid:
        return column.null_count == len(column)
    try:
        same = pc.equal(cast(column, bare(column.type)), value.cast(bare(column.type)))
    except pa.ArrowException:
        return False
    return column.null_count == 0 and bool(pc.all(same).as_py())


def encoded(type_: pa.DataType) -> pa.DataType:
    """A type with its strings as dictionaries, the form in which a column of them is decoded fastest; lists of them too."""
    plain = bare(type_)
    if is_text(plain):
        return pa.dictionary(pa.int32(), pa.string())
    if is_bytes(plain):
        return pa.dictionary(pa.int32(), pa.binary())
    if is_any_list(plain):
        values = encoded(plain.value_type)
        return pa.large_list(values) if pa.types.is_dictionary(values) else type_
    return type_


def encode(table: pa.Table) -> pa.Table:
    """A table with its strings as dictionaries."""
    columns = [column.cast(encoded(column.type)) for column in table.columns]
    return pa.table(columns, names=table.column_names)


def leaves(type_: pa.DataType) -> int:
    """Parquet columns that a column of this type takes."""
    plain = bare(type_)
    if pa.types.is_struct(plain):
        return sum(leaves(field.type) for field in plain)
    if pa.types.is_map(plain):
        return leaves(plain.key_type) + leaves(plain.item_type)
    return leaves(plain.value_type) if is_any_list(plain) else 1
