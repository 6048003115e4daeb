"""Types in which DuckDB hands every value through unchanged. In: Arrow types of Parquet columns; out: plain ones, and the way back.

Times become their integers (DuckDB knows fewer units), half floats floats, dictionaries and Arrow's other layouts of strings and lists
the usual ones.
"""

import pyarrow as pa

from interformer_rec.data.files.unify import bare, is_any_list, is_bytes, is_text
from interformer_rec.errors import InputError

_SAME = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_float32, pa.types.is_float64, pa.types.is_decimal128)
_INT64 = (pa.types.is_timestamp, pa.types.is_date64, pa.types.is_time64, pa.types.is_duration)
_INT32 = (pa.types.is_date32, pa.types.is_time32)


def plain(column: str, type_: pa.DataType) -> pa.DataType:
    """The plain type of a column's type. Raises InputError for one that has none."""
    whole = bare(type_)
    if is_any_list(whole):
        return pa.list_(plain(column, whole.value_type))
    if pa.types.is_struct(whole):
        return pa.struct([(field.name, plain(column, field.type)) for field in whole])
    if any(is_one(whole) for is_one in _SAME):
        return whole
    if is_text(whole):
        return pa.string()
    if is_bytes(whole) or pa.types.is_fixed_size_binary(whole):
        return pa.binary()
    if any(is_one(whole) for is_one in _INT64):
        return pa.int64()
    if any(is_one(whole) for is_one in _INT32):
        return pa.int32()
    if pa.types.is_float16(whole):
        return pa.float32()
    if pa.types.is_null(whole):
        return pa.int8()
    raise InputError(
        f"column {column!r} is {type_}, which cannot be sorted here; leave it out (--drop {column}) or write it as another type"
    )


def plain_table(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of `schema`, in its plain types."""
    return pa.table(
        [_column(table[field.name]).cast(field.type) for field in schema], names=[field.name for field in schema]
    )


def restored(array: pa.Array, type_: pa.DataType) -> pa.Array:
    """An array of `plain(type_)` as it was."""
    if array.type.equals(type_):
        return array
    if pa.types.is_null(type_):
        return pa.nulls(len(array))
    if is_any_list(type_) and not pa.types.is_fixed_size_list(type_) and pa.types.is_null(type_.value_type):
        return pa.ListArray.from_arrays(array.offsets, pa.nulls(len(array.values)), mask=array.is_null()).cast(type_)
    if pa.types.is_float16(bare(type_)):
        return array.cast(type_, safe=False)
    return array.cast(type_)


def _column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Without extensions, which Arrow does not cast."""
    if isinstance(column.type, pa.BaseExtensionType):
        return pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    return column
