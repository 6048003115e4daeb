"""One history's events, joined with rows. In: users and times of rows; out: list columns, the newest events before each row.

Only events strictly before a row's time are its history: what happens at the same moment may be the row's own outcome.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from interformer_rec.data.decode.id_values import id_kind
from interformer_rec.data.decode.jagged import compact
from interformer_rec.data.event_store.keys import TIMES, USERS
from interformer_rec.data.event_store.unpacked import Unpacked, emitted, opened, unpack
from interformer_rec.data.files.source import Source
from interformer_rec.data.files.unify import bare
from interformer_rec.errors import InputError

MICROSECONDS = 1_000_000
LEAST = -(2**63)


class Found(NamedTuple):
    """Of every row: its events are those from `starts` on, in the store's order."""

    starts: np.ndarray  # (rows,) int64
    lengths: np.ndarray  # (rows,) int64
    known: np.ndarray  # (rows,) bool: the store has an event of the user


@dataclass(frozen=True)
class History:
    """A history's store; can be pickled, and is opened where it is used."""

    name: str
    source: Source  # of the events
    user: str
    time: str
    columns: tuple[str, ...]  # of the events, without the time
    timestamp: str | None  # what rows call the events' times
    most: int  # newest events of a row
    cache: str | None
    delay: float = 0.0  # between an event and the first row that has it; seconds, or the unit of an integer time
    _open: list[Unpacked] = field(default_factory=list, compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": []}

    def events(self) -> Unpacked:
        """Its arrays. Raises InputError the first time, for a store that is not as it has to be."""
        if not self._open:
            self._open.append(opened(unpack(self.source, self.user, self.time, self.columns, self.cache)))
        return self._open[0]

    @property
    def given(self) -> tuple[str, ...]:
        """The list columns that rows get."""
        return (*self.columns, *([self.timestamp] if self.timestamp else []))

    def types(self) -> list[pa.Field]:
        """Of the list columns."""
        schema = self.source.require((*self.columns, self.time))
        fields = [pa.field(name, pa.large_list(emitted(name, schema.field(name).type))) for name in self.columns]
        if self.timestamp:
            fields.append(pa.field(self.timestamp, pa.large_list(bare(schema.field(self.time).type))))
        return fields

    def require(self, rows: Source) -> None:
        """Raises InputError unless users and times of rows and events can be compared."""
        if self.delay % 1 and pa.types.is_integer(bare(self.source.require((self.time,)).field(self.time).type)):
            raise InputError(
                f"data.events.delay is {self.delay:g}, and column {self.time!r} holds integers: it must be a whole number of their unit"
            )
        for column, kinds in ((self.user, USERS), (self.time, TIMES)):
            mine, theirs = (one.require((column,)).field(column).type for one in (self.source, rows))
            kind = id_kind(mine)
            if kind not in kinds or pa.types.is_decimal(bare(mine)) or pa.types.is_boolean(bare(mine)):
                raise InputError(
                    f"column {column!r} of {self.source.path!r} is {mine}; events of data.events have {' or '.join(kinds)}s there"
                )
            if id_kind(theirs) != kind or pa.types.is_decimal(bare(theirs)):
                raise InputError(
                    f"column {column!r} is {theirs} in the rows of {rows.path!r} and {mine} in the events of {self.source.path!r} "
                    f"(data.events.stores.{self.name}): nothing would be found. Write both as {kind}s"
                )

    @property
    def _delay(self) -> int:
        """In the numbers that times are compared by."""
        integers = pa.types.is_integer(bare(self.source.require((self.time,)).field(self.time).type))
        return round(self.delay if integers else self.delay * MICROSECONDS)

    def find(self, users: np.ndarray, times: np.ndarray, given: np.ndarray) -> Found:
        """The newest events of each row, `delay` before it; `given` (rows,) bool: rows that have a user and a time."""
        events = self.events()
        if not len(events.users):
            nothing = np.zeros(len(users), np.int64)
            return Found(nothing, nothing, np.zeros(len(users), bool))
        place = np.minimum(np.searchsorted(events.users, users), len(events.users) - 1)
        known = given & (events.users[place] == users)
        begins, ends = (np.where(known, edges[place], 0) for edges in (events.begins, events.ends))
        ends = first_not_before(events.times, begins, ends, np.maximum(times, LEAST + self._delay) - self._delay)
        lengths = np.minimum(ends - begins, self.most)
        return Found(ends - lengths, lengths, known)

    def lists(self, found: Found, wanted: Collection[str], strings: bool) -> dict[str, pa.Array]:
        """The wanted list columns of rows; `strings`: as dictionaries."""
        events, made = self.events(), {}
        offsets = pa.array(np.concatenate([np.zeros(1, np.int64), np.cumsum(found.lengths)]))
        types = {one.name: one.type.value_type for one in self.types()}
        for name in self.given:
            if name not in wanted:
                continue
            if name == self.timestamp:
                values = _timestamps(compact(events.times, found.starts, found.lengths), types[name])
            else:
                codes = compact(events.values[name], found.starts, found.lengths)
                null = compact(events.nulls[name], found.starts, found.lengths) if name in events.nulls else None
                words = events.dictionaries.get(name)
                values = _array(codes, null, types[name]) if words is None else _words(codes, null, words, strings)
            made[name] = pa.LargeListArray.from_arrays(offsets, values)
        return made


def first_not_before(times: np.ndarray, begins: np.ndarray, ends: np.ndarray, when: np.ndarray) -> np.ndarray:
    """(rows,) the first place of begins .. ends whose time is not before `when`, by bisection of all rows at once."""
    low, high = begins.astype(np.int64), ends.astype(np.int64)
    rows = np.flatnonzero(low < high)
    while len(rows):
        middle = (low[rows] + high[rows]) >> 1
        before = times[middle] < when[rows]
        low[rows] = np.where(before, middle + 1, low[rows])
        high[rows] = np.where(before, high[rows], middle)
        rows = rows[low[rows] < high[rows]]
    return low


def _array(values: np.ndarray, null: np.ndarray | None, type_: pa.DataType) -> pa.Array:
    valid = None if null is None else pa.py_buffer(np.packbits(~null, bitorder="little"))
    return pa.Array.from_buffers(type_, len(values), [valid, pa.py_buffer(np.ascontiguousarray(values))])


def _timestamps(times: np.ndarray, type_: pa.DataType) -> pa.Array:
    """The events' times in their own type; those that are kept in microseconds in their unit."""
    if pa.types.is_timestamp(type_):
        return pa.array(times).cast(pa.timestamp("us", type_.tz)).cast(type_, safe=False)
    return pa.array(times).cast(type_, safe=False)


def _words(codes: np.ndarray, null: np.ndarray | None, words: pa.Array, strings: bool) -> pa.Array:
    """Strings, with a dictionary of those that are there: it is looked up whole."""
    used = np.zeros(len(words), bool)
    used[codes] = True
    places = np.flatnonzero(used)
    number = np.zeros(len(words), np.int32)
    number[places] = np.arange(len(places))
    indices = _array(number.take(codes), null, pa.int32())
    found = pa.DictionaryArray.from_arrays(indices, words.take(pa.array(places)))
    return found if strings else found.dictionary_decode()
