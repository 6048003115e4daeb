"""Ids as JSON writes them -> rows of an embedding table. In: parsed values of one column; out: the rows that data/decode finds for them.

A class a kind of id. `one` looks up a single value; `many` a list of them, in numpy where the list holds nothing unusual and else one by
one. A value is taken as it is written: 1.0 and true are no integers, "7" is no 7. Raises Wrong.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from interformer_rec.config.features import MISSING_ROW, Table
from interformer_rec.data.decode.id_values import id_kind
from interformer_rec.data.decode.ids import RowMap
from interformer_rec.serving.encode.clock import days, nanoseconds
from interformer_rec.serving.encode.refusal import Wrong, one_by_one

MANY = 16  # values, from which on numpy is faster
LOWEST, END = -(2**63), 2**63
CURE_INTEGER = "Write the id as an integer, without a point and quotes"
NOTHING = np.zeros(0, np.int64)
CURE_TEXT = "Write the id as text"
INTEGERS, INTEGERS_AND_NULLS, TEXTS = {int}, {int, type(None)}, {str}


class Ids:
    """Base: ids of one column in one table. `missing` is what a null reads."""

    def __init__(self, map_: RowMap, table: Table, name: str, missing: int) -> None:
        self._map, self._name, self._missing = map_, name, missing
        self._size = table.num_embeddings if table.ids == "identity" else None

    def one(self, value: Any) -> int:
        """The row of one value."""
        raise NotImplementedError

    def many(self, values: list[Any]) -> np.ndarray:
        """(n,) int64 rows; Wrong.at is the place of a value that is refused. Raises InputError where the table has ids of another kind."""
        rows = self._together(values) if len(values) >= MANY or not values else None
        return np.array(one_by_one(self.one, values), np.int64) if rows is None else rows

    def _together(self, values: list[Any]) -> np.ndarray | None:
        """As `many`; None: something in the list needs a closer look."""
        return None if values else self._map.ints(NOTHING).astype(np.int64)

    def _row(self, id_: int, value: Any) -> int:
        if self._size is not None and not 0 <= id_ < self._size:
            raise Wrong(
                f"an id outside 0 .. {self._size} - 1, the range of identity table {self._name!r}",
                "Leave the candidate out, or train with a larger num_embeddings or ids: vocab or hash",
                value,
            )
        return self._map.row_of_int(id_)


class IntegerIds(Ids):
    """Of columns of integers or decimals. Where these held unsigned integers of 64 bits, so may requests."""

    def __init__(self, map_: RowMap, table: Table, name: str, missing: int, unsigned: bool) -> None:
        super().__init__(map_, table, name, missing)
        self._end = 2 * END if unsigned else END

    def one(self, value: Any) -> int:
        """As Ids.one."""
        if value is None:
            return self._missing
        if type(value) is int and LOWEST <= value < END and self._size is None:  # nearly all there are
            return self._map.row_of_int(value)
        return self._row(whole(value, self._end), value)

    def _together(self, values: list[Any]) -> np.ndarray | None:
        null = None
        if not INTEGERS.issuperset(map(type, values)):
            if not INTEGERS_AND_NULLS.issuperset(map(type, values)):
                return None
            null = np.array([value is None for value in values])
            values = [0 if value is None else value for value in values]
        try:
            ids = np.array(values, np.int64)
        except OverflowError:
            return None
        if self._map.outside(ids) is not None:
            return None
        rows = self._map.ints(ids).astype(np.int64)
        if null is not None:
            rows[null] = self._missing
        return rows


class BooleanIds(Ids):
    """Of columns of booleans."""

    def one(self, value: Any) -> int:
        """As Ids.one."""
        if value is None:
            return self._missing
        if type(value) is not bool:
            raise Wrong("no true or false", "Write true or false, without quotes", value)
        return self._row(int(value), value)


class DateIds(Ids):
    """Of columns of dates."""

    def one(self, value: Any) -> int:
        """As Ids.one."""
        return self._missing if value is None else self._row(days(value), value)


class TimeIds(Ids):
    """Of columns of timestamps."""

    def __init__(self, map_: RowMap, table: Table, name: str, missing: int, zoned: bool) -> None:
        super().__init__(map_, table, name, missing)
        self._zoned = zoned

    def one(self, value: Any) -> int:
        """As Ids.one."""
        if value is None:
            return self._missing
        microseconds, rest = divmod(nanoseconds(value, self._zoned), 1000)
        if rest:
            raise Wrong(
                "an id that is not a whole number of microseconds", "Write at most 6 digits after the point", value
            )
        return self._row(microseconds, value)


class TextIds(Ids):
    """Of columns of strings or binary."""

    def one(self, value: Any) -> int:
        """As Ids.one."""
        if value is None:
            return self._missing
        if type(value) is not str:
            raise Wrong("no text", CURE_TEXT, value)
        if not value.isascii():
            _check_unicode(value)
        return self._map.row_of_text(value)

    def _together(self, values: list[Any]) -> np.ndarray | None:
        if not TEXTS.issuperset(map(type, values)):
            return None
        if not all(map(str.isascii, values)):
            for value in values:
                if not value.isascii() and not _is_unicode(value):
                    return None
        return self._map.texts(values).astype(np.int64)


class NoIds(Ids):
    """Of a column that was null in all training files, as were all others of its table: so is it in a request."""

    def one(self, value: Any) -> int:
        """As Ids.one."""
        if value is not None:
            raise Wrong("a value, where all training files have null", "Write null", value)
        return self._missing


def ids_of(type_: pa.DataType, map_: RowMap, table: Table, name: str, missing: int = MISSING_ROW) -> Ids:
    """The reader of ids that were of this Arrow type in training."""
    kind = id_kind(type_)
    if kind == "string":
        return TextIds(map_, table, name, missing)
    if kind == "date":
        return DateIds(map_, table, name, missing)
    if kind == "timestamp":
        return TimeIds(map_, table, name, missing, type_.tz is not None)
    if kind != "integer":
        return NoIds(map_, table, name, missing)
    if pa.types.is_boolean(type_):
        return BooleanIds(map_, table, name, missing)
    return IntegerIds(map_, table, name, missing, is_unsigned(type_))


def is_unsigned(type_: pa.DataType) -> bool:
    """Whether integers of this type may be 2^63 and up; they count as the int64 of the same bits."""
    return pa.types.is_uint64(type_) or pa.types.is_decimal(type_)


def whole(value: Any, end: int) -> int:
    """The int64 of an integer from -2^63 to below `end`. Raises Wrong."""
    if type(value) is not int:
        what = "a number with a point, which is no id" if type(value) is float else "no integer"
        raise Wrong(what, CURE_INTEGER, value)
    if not LOWEST <= value < end:
        raise Wrong("an integer that 64 bits do not hold", "Write an id that the training files could hold", value)
    return value if value < END else value - 2 * END


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_unicode(text: str) -> None:
    if not _is_unicode(text):
        raise Wrong("text with half of a surrogate pair, which is no Unicode", "Write text as UTF-8", text)
