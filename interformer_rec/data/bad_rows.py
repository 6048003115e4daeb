"""Rows that cannot be used. In: what a check found in a decoded table; out: an InputError, or marks so that rows are skipped."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from interformer_rec.errors import InputError

SHOWN = 200  # characters of a value in a message


class BadRows:
    """Collects the bad rows of one table: with `skip` they are marked, otherwise the first one found is an error."""

    def __init__(self, table: pa.Table, where: Callable[[int], str], skip: bool) -> None:
        self._table, self._where, self._skip = table, where, skip
        self.reasons: list[tuple[str, str]] = []  # ('column: what', message of the first such row)
        self.codes: np.ndarray | None = None  # (rows,) int32: 0 for a good row, else 1 + index of its first reason

    def add(
        self, column: str, what: str, rows: np.ndarray, cure: str, value: Callable[[int], object] | None = None
    ) -> None:
        """`rows` are indices of bad rows, ascending; none is fine. `value(row)` is shown, by default the column's."""
        if not len(rows):
            return
        row = int(rows[0])
        shown = repr(value(row) if value else self._table[column][row].as_py())
        shown = shown if len(shown) <= SHOWN else shown[:SHOWN] + " ..."
        message = f"{self._where(row)}, column {column!r}: {what}; the value is {shown}"
        if not self._skip:
            raise InputError(f"{message}. {cure}, or set data.on_bad_row: skip to leave such rows out")
        if self.codes is None:
            self.codes = np.zeros(self._table.num_rows, np.int32)
        self.reasons.append((f"{column}: {what}", message))
        self.codes[rows[self.codes[rows] == 0]] = len(self.reasons)
