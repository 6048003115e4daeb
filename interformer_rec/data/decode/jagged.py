"""Lists end to end, aligned columns side by side, and picking rows from them. In: list bounds and values of a row group; out: rows.

Long rows are picked by Arrow's take on the values seen as one string of bytes a row: it copies each row's bytes in one go, which
takes half the time of gathering element by element. Short rows are gathered with an index. That aligned columns are side by side makes
it one copy a row instead of one a row and column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

SHORT = 16  # values a row on average, from which on copying whole rows is faster (measured)
Rows = np.ndarray | slice  # indices of rows, or a run of them


@dataclass
class Jagged:
    """Aligned lists: a sequence group, a bag, or an id that may be absent.

    Row r has `lengths[r]` events; the events of row r+1 follow those of row r.
    """

    lengths: np.ndarray  # (rows,) int64
    events: np.ndarray  # (events, columns) table rows, in the smallest type that holds them all
    timestamps: np.ndarray | None = None  # (events,) int64

    @cached_property
    def offsets(self) -> np.ndarray:
        """(rows + 1,) int64: where each row begins, and the end."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.lengths)])

    @cached_property
    def _bytes(self) -> dict[int, pa.Buffer]:
        return {}  # bytes an event -> offsets in bytes: made once, not once a batch

    def take(self, rows: Rows) -> Jagged:
        """These rows, in this order, each with all of its events."""
        times = None if self.timestamps is None else self.pick(self.timestamps, rows)
        return Jagged(pick(self.lengths, rows), self.pick(self.events, rows), times)

    def pick(self, values: np.ndarray, rows: Rows) -> np.ndarray:
        """`values` (events or timestamps) of these rows only, end to end; maybe a view."""
        if isinstance(rows, slice):
            return values[self.offsets[rows.start] : self.offsets[rows.stop]]
        lengths = pick(self.lengths, rows)
        total = int(lengths.sum())
        if total >= SHORT * len(rows):
            width = _width(values)
            if width not in self._bytes:
                self._bytes[width] = pa.py_buffer(self.offsets * width)
            return _take(values, self._bytes[width], len(self.lengths), rows, total)
        index = np.repeat(pick(self.offsets, rows) - (np.cumsum(lengths) - lengths), lengths)
        index += np.arange(total)
        return pick(values, index)


def pick(values: np.ndarray, rows: Rows) -> np.ndarray:
    """values[rows]: a view of a run, else a copy."""
    if isinstance(rows, slice):
        return values[rows]
    return values.take(rows, axis=0, mode="clip")  # never out of range; clip is numpy's fastest mode


def compact(values: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The values of all rows end to end, row r being values[starts[r] : starts[r] + lengths[r]]; a view if they lie so.

    Rows may lie in any order, and overlap."""
    if not len(starts):
        return values[:0]
    total = int(lengths.sum())
    if np.array_equal(starts[1:], starts[:-1] + lengths[:-1]):
        return values[int(starts[0]) : int(starts[0]) + total]
    # A string a row, and one for what lies between it and the next, in turn; those are not looked at, and may end before they begin.
    bounds = np.empty(2 * len(starts) + 2, np.int64)
    bounds[0], bounds[1:-1:2], bounds[2:-1:2], bounds[-1] = 0, starts, starts + lengths, len(values)
    offsets = pa.py_buffer(bounds * _width(values))
    return _take(values, offsets, len(bounds) - 1, np.arange(1, len(bounds) - 1, 2), total)


def _width(values: np.ndarray) -> int:
    """Bytes an event."""
    return values.itemsize * (values.shape[1] if values.ndim == 2 else 1)


def _take(values: np.ndarray, offsets: pa.Buffer, count: int, places: np.ndarray, total: int) -> np.ndarray:
    """The events between offsets p and p + 1 (of `count` + 1, in bytes) for each p of `places`: `total` events."""
    if not total:
        return values[:0]
    strings = pa.Array.from_buffers(pa.large_binary(), count, [None, offsets, pa.py_buffer(values)])
    taken = strings.take(pa.array(places)).buffers()[2]
    return np.frombuffer(taken, values.dtype, total * _width(values) // values.itemsize).reshape(
        total, *values.shape[1:]
    )


def join(parts: Sequence[Jagged]) -> Jagged:
    """The rows of several row groups, in order."""
    if len(parts) == 1:
        return parts[0]
    times = [part.timestamps for part in parts if part.timestamps is not None]
    return Jagged(
        np.concatenate([part.lengths for part in parts]),
        np.concatenate([part.events for part in parts]),
        np.concatenate(times) if times else None,
    )
