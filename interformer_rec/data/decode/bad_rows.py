"""Rows that cannot be used. In: what a check found in a decoded table; out: an InputError, or marks so that rows are skipped."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from interformer_rec.errors import InputError

SHOWN = 200  # characters of a value in a message
SEARCHED = 1 << 20  # bytes of a string in which the one that is not UTF-8 is looked for


class BadRows:
    """Collects the bad rows of one table: with `skip` they are marked, otherwise the first one found is an error."""

    def __init__(self, table: pa.Table, where: Callable[[int], str], skip: bool) -> None:
        self._table, self._where, self._skip = table, where, skip
        self.reasons: list[tuple[str, str]] = []  # ('column: what', message of the first such row)
        self.codes: np.ndarray | None = None  # (rows,) int32: 0 for a good row, else 1 + index of its first reason

    def add(
        self, column: str, what: str, rows: np.ndarray, cure: str, value: Callable[[int], object] | None = None
    ) -> None:
        """`rows` are indices of bad rows, ascending; none is fine. `value(row)` is shown (an Arrow scalar as Python's value), by default
        the column's."""
        if not len(rows):
            return
        row = int(rows[0])
        found = shown(value(row) if value else self._table[column][row])
        message = f"{self._where(row)}, column {column!r}: {what}; the value is {found}"
        if not self._skip:
            raise InputError(f"{message}. {cure}, or set data.on_bad_row: skip to leave such rows out")
        if self.codes is None:
            self.codes = np.zeros(self._table.num_rows, np.int32)
        self.reasons.append((f"{column}: {what}", message))
        self.codes[rows[self.codes[rows] == 0]] = len(self.reasons)


def shown(value: object) -> str:
    """A value for a message: bounded, and whatever it is."""
    if isinstance(value, pa.DictionaryScalar):
        value = value.value
    if isinstance(value, pa.Scalar) and not value.is_valid:
        value = None
    if isinstance(value, pa.BinaryScalar):  # strings too
        content = value.as_buffer()
        start = content.slice(0, min(content.size, SEARCHED)).to_pybytes()
        try:
            value = start.decode()
        except UnicodeDecodeError as error:
            near = start[max(0, error.start - SHOWN // 4) : error.start + SHOWN // 4]
            return _cut(repr(near)) + (
                f", around byte {error.start} of {content.size}" if len(near) < content.size else ""
            )
    elif isinstance(value, pa.ListScalar):
        inside = value.values
        more = ", ..." if len(inside) > SHOWN else ""
        return _cut("[" + ", ".join(shown(one) for one in inside.slice(0, SHOWN)) + more + "]")
    elif isinstance(value, pa.Scalar):
        try:
            value = value.as_py()
        except (ValueError, OverflowError):  # a time that Python's types do not hold
            return _cut(_arrows_words(value))
    return _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else text[:SHOWN] + " ..."


def _arrows_words(value: pa.Scalar) -> str:
    try:
        return str(value.cast(pa.string()).as_py())
    except pa.ArrowException:
        return f"a {value.type}"
