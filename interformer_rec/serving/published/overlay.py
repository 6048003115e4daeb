"""Changed rows over those of a mapped file. In: a file's rows, rows of deltas; out: rows that read as if they had been exported with them.

Nothing changes while somebody reads it: `with_rows` makes another overlay, which shares the base and, as far as it can, the memory of the
changed rows with the one before. So a request that began with one state ends with it, and the state before stays for a return.
Legend: w floats a row.
"""

from __future__ import annotations

import numpy as np

from interformer_rec.serving.tables import TableFile


class _Values:
    """Memory of changed rows, filled from its beginning; what is filled is never written again."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.used = values, 0


class Overlay(TableFile):
    """The rows of a file, of which some have changed."""

    def __init__(self, base: TableFile) -> None:
        """Nothing has changed yet."""
        self.rows, self.width, self.form, self._base = base.rows, base.width, base.form, base
        self._where = np.full(base.rows, -1, np.int32)  # row -> its place in memory; -1: as in the base
        self._memory, self._used = _Values(np.empty((0, base.width), np.float32)), 0

    @property
    def changed(self) -> int:
        """Rows that are not the base's."""
        return int((self._where >= 0).sum())

    def take(self, rows: np.ndarray) -> np.ndarray:
        """(...) -> (..., w) float32. The caller has checked that the file has these rows."""
        found = self._base.take(rows)
        where = self._where.take(rows)
        fresh = where >= 0
        if fresh.any():
            found[fresh] = self._memory.values.take(where[fresh], axis=0)
        return found

    def with_rows(self, rows: np.ndarray, values: np.ndarray) -> Overlay:
        """The same rows with other `values` (n, w) in `rows` (n,), all different."""
        found = Overlay.__new__(Overlay)
        found.rows, found.width, found.form, found._base = self.rows, self.width, self.form, self._base
        where = self._where.copy()
        where[rows] = -1
        memory, first = self._memory, self._used
        if memory.used != first or first + len(rows) > len(memory.values):
            memory, first = self._moved(where, len(rows))
        last = first + len(rows)
        memory.values[first:last] = values
        where[rows] = np.arange(first, last, dtype=np.int32)
        memory.used = last
        found._where, found._memory, found._used = where, memory, last
        return found

    def _moved(self, where: np.ndarray, more: int) -> tuple[_Values, int]:
        """New memory with the changed rows that still count, and room for as many again; `where` is brought up to date."""
        kept = np.flatnonzero(where >= 0)
        memory = _Values(np.empty((min(self.rows, 2 * (len(kept) + more)), self.width), np.float32))
        memory.values[: len(kept)] = self._memory.values.take(where[kept], axis=0)
        where[kept] = np.arange(len(kept), dtype=np.int32)
        return memory, len(kept)
