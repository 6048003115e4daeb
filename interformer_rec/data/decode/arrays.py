"""Arrow arrays as numpy arrays, without a loop over rows. In: columns of a decoded table; out: values, null masks, list bounds.

What Arrow types mean as ids is in id_values.py. One chunk is viewed in place; several (row groups of several files) are joined by one copy.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

Mask = np.ndarray | None  # bool per value, True where Arrow has a null; None: no nulls


class Lists(NamedTuple):
    """A list column: row r holds values[starts[r] : starts[r] + lengths[r]]. Null rows have length 0 (and are in `null`)."""

    starts: np.ndarray  # (rows,) int64
    lengths: np.ndarray  # (rows,) int64
    null: Mask  # per row
    values: pa.ChunkedArray  # may hold values of no row (sliced arrays)


def flat(column: pa.ChunkedArray) -> tuple[np.ndarray, Mask]:
    """Values and null mask of a column of numbers or booleans; what stands at a null is arbitrary. Decimals become float64; a column of
    the null type is zeros, all of them null."""
    if pa.types.is_null(column.type):
        return np.zeros(len(column)), np.ones(len(column), bool)
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    parts = [_flat(chunk) for chunk in column.chunks if len(chunk)]
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return np.zeros(0, _dtype(column.type)), None
    return np.concatenate([values for values, _ in parts]), joined([(null, len(values)) for values, null in parts])


def joined(parts: list[tuple[Mask, int]]) -> Mask:
    """Masks of so many values each, one after another."""
    if all(mask is None for mask, _ in parts):
        return None
    return np.concatenate([np.zeros(count, bool) if mask is None else mask for mask, count in parts])


def _dtype(type_: pa.DataType) -> np.dtype:
    """NumPy's type of a number or boolean. Arrow's own `to_pandas_dtype` wants pandas installed in some releases."""
    return np.dtype({"halffloat": "float16", "float": "float32", "double": "float64"}.get(str(type_), str(type_)))


def _flat(array: pa.Array) -> tuple[np.ndarray, Mask]:
    null = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
    if pa.types.is_boolean(array.type):
        return (array.fill_null(False) if null is not None else array).to_numpy(zero_copy_only=False), null
    buffer = array.buffers()[1]
    if buffer is None:  # no value at all
        return np.zeros(len(array), _dtype(array.type)), null
    type_ = _dtype(array.type)
    return np.frombuffer(buffer, type_, len(array), array.offset * type_.itemsize), null


def times(column: pa.ChunkedArray) -> tuple[np.ndarray, Mask]:
    """Like `flat`, for the times of events: timestamps as microseconds, whatever the unit of their file, uint64 as the int64
    of the same bits (a decimal is what some files' uint64 and others' int64 have in common)."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    if pa.types.is_timestamp(column.type) or pa.types.is_decimal(column.type):
        column = column.cast(pa.int64(), safe=False)
    values, null = flat(column)
    return (values.view(np.int64) if values.dtype == np.uint64 else values), null


def lists(column: pa.ChunkedArray) -> Lists:
    """Bounds and values of a list column (list, large_list or fixed_size_list); of the null type: all lists are null."""
    if pa.types.is_null(column.type):
        column = column.cast(pa.list_(pa.null()))
    parts, base = [], 0
    for chunk in column.chunks:
        if pa.types.is_fixed_size_list(chunk.type):
            chunk = chunk.cast(pa.list_(chunk.type.value_type))
        bounds = chunk.offsets.to_numpy().astype(np.int64)
        null = chunk.is_null().to_numpy(zero_copy_only=False) if chunk.null_count else None
        lengths = np.diff(bounds)
        if null is not None:
            lengths[null] = 0  # Arrow allows anything behind a null
        parts.append((bounds[:-1] + base, lengths, null, chunk.values))
        base += len(chunk.values)
    value_type = column.type.value_type
    if len(parts) == 1:
        starts, lengths, null, values = parts[0]
        return Lists(starts, lengths, null, pa.chunked_array([values]))
    if not parts:
        return Lists(np.zeros(0, np.int64), np.zeros(0, np.int64), None, pa.chunked_array([], value_type))
    nulls = joined([(part[2], len(part[0])) for part in parts])
    starts, lengths = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    return Lists(starts, lengths, nulls, pa.chunked_array([p[3] for p in parts], value_type))


def elements(found: Lists, counts: np.ndarray) -> pa.ChunkedArray:
    """The elements of all rows end to end, as many of each row as `counts` (rows,) says: nulls behind a list's end."""
    starts, total = found.starts, int(counts.sum())
    if np.array_equal(found.lengths, counts) and np.array_equal(starts[1:], starts[:-1] + counts[:-1]):
        return found.values.slice(int(starts[0]) if len(starts) else 0, total)
    inside = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    index = pa.array(np.repeat(starts, counts) + inside, mask=inside >= np.repeat(found.lengths, counts))
    return found.values.take(index)


def is_list(type_: pa.DataType) -> bool:
    """Lists whose offsets we can read."""
    return pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_)
