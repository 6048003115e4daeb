"""Rows with histories in them -> the events of all histories, each once; and whether a store gives each row its history back.

In: a Source of rows with list columns; out: tables of events as sorted_events.py takes them.

An event has no number of its own: the same one stands in the histories of many rows, and two that look the same may be two. So all events
of a user at one moment are taken from one row, the first that has most of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from interformer_rec.data.decode.arrays import Lists, lists
from interformer_rec.data.decode.jagged import compact
from interformer_rec.data.event_store.history import History
from interformer_rec.data.event_store.keys import time_keys, user_keys
from interformer_rec.data.event_store.sorted_events import numbered
from interformer_rec.data.files.source import Source
from interformer_rec.data.grouping.plain import plain_table
from interformer_rec.data.grouping.reading import tables, where
from interformer_rec.errors import InputError

ROWS = 1_024  # read at a time: with long histories these are many events
CURE = (
    "Do all histories end some time before their rows? Then say how long: --delay. Histories that leave events out cannot be joined: make "
    "the store of the events' own files"
)


@dataclass(frozen=True)
class Listed:
    """Which columns of the rows are what."""

    user: str
    time: str  # of the row
    event_time: str  # the events', a list
    columns: tuple[str, ...]  # of the events, lists

    @property
    def lists(self) -> tuple[str, ...]:
        """Columns with an element an event."""
        return tuple(dict.fromkeys((*self.columns, self.event_time)))


def pieces(source: Source, listed: Listed) -> Iterator[tuple[int, pa.Table, dict[str, Lists]]]:
    """(the first row's number, rows, their lists). Raises InputError where the lists of a row differ in length."""
    at = 0
    for group in range(len(source.group_rows)):
        for table in tables(source, group, (listed.user, listed.time, *listed.lists), ROWS):
            found = {name: lists(table[name]) for name in listed.lists}
            times = found[listed.event_time]
            for name, one in found.items():
                differ = np.flatnonzero(one.lengths != times.lengths)
                if len(differ):
                    row = int(differ[0])
                    raise InputError(
                        f"column {name!r} has {one.lengths[row]} elements and {listed.event_time!r} {times.lengths[row]}: "
                        f"{where(source, at + row)}"
                    )
            yield at, table, found
            at += len(table)


def exploded(source: Source, listed: Listed, kept: pa.Schema) -> Iterator[pa.Table]:
    """The events of all rows, as `numbered(kept)`; rows without a user have none. Raises InputError for an event without a time, or a
    history that is not oldest first."""
    schema = numbered(kept)
    for at, table, found in pieces(source, listed):
        lengths = found[listed.event_time].lengths
        keys, unknown = user_keys(table[listed.user])
        of = np.repeat(np.arange(len(keys)), lengths)
        values = {name: _values(one) for name, one in found.items()}
        times, timeless = time_keys(pa.chunked_array([values[listed.event_time]]))
        within = of[1:] == of[:-1]
        falls = within & (times[1:] < times[:-1])
        for mask, what in (
            (timeless, "an event without a time"),
            (np.append(False, falls), "events that are not oldest first"),
        ):
            if mask is not None and mask.any():
                raise InputError(
                    f"column {listed.event_time!r} has {what}: {where(source, at + int(of[np.argmax(mask)]))}"
                )
        runs = np.cumsum(np.append(0, ~within | (times[1:] != times[:-1]))) if len(of) else of
        places = np.arange(len(of)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        columns = [
            table[listed.user].take(pa.array(of)),
            values[listed.event_time],
            *(values[name] for name in listed.columns),
        ]
        plainly = plain_table(pa.table(columns, names=kept.names), kept)
        made = pa.table([of + at, np.bincount(runs)[runs] if len(of) else of, places, *plainly.columns], schema=schema)
        yield made if unknown is None else made.filter(pa.array(~unknown[of]))


def compare(source: Source, listed: Listed, history: History) -> int:
    """Raises InputError for the first row whose history is not the newest events before its time; the longest history."""
    longest = max(
        (int(found[listed.event_time].lengths.max(initial=0)) for _, _, found in pieces(source, listed)), default=0
    )
    types = {one.name: one.type.value_type for one in history.types()}
    for at, table, found in pieces(source, listed):
        (keys, nobody), (times, never) = user_keys(table[listed.user]), time_keys(table[listed.time])
        given = np.ones(len(keys), bool)
        for mask in (nobody, never):
            given &= True if mask is None else ~mask
        stored = history.find(keys, times, given)
        lengths = np.minimum(stored.lengths, longest)
        stored = stored._replace(starts=stored.starts + stored.lengths - lengths, lengths=lengths)
        differs = lengths != found[listed.event_time].lengths
        made = history.lists(stored, listed.lists, strings=False)
        for name, one in found.items():
            if differs.any():
                break
            mine, theirs = made[name].values, _values(one).cast(types[name], safe=False)
            if not mine.equals(theirs):
                same = np.array([a == b for a, b in zip(mine.to_pylist(), theirs.to_pylist(), strict=True)])
                differs[np.repeat(np.arange(len(lengths)), lengths)[~same]] = True
        if differs.any():
            _differs(source, at, int(np.argmax(differs)), lengths, found[listed.event_time], times, listed)
    return longest


def _values(one: Lists) -> pa.Array:
    """The elements of all rows end to end."""
    total = int(one.lengths.sum())
    if total and not np.array_equal(one.starts[1:], one.starts[:-1] + one.lengths[:-1]):
        places = compact(np.arange(len(one.values)), one.starts, one.lengths)
        return one.values.take(pa.array(places)).combine_chunks()
    return one.values.slice(int(one.starts[0]) if total else 0, total).combine_chunks()


def _differs(
    source: Source, at: int, row: int, lengths: np.ndarray, lists: Lists, times: np.ndarray, listed: Listed
) -> None:
    mine, _ = time_keys(lists.values.slice(int(lists.starts[row]), int(lists.lengths[row])))
    end = f" Its last event is at {mine[-1]}, the row at {times[row]}." if len(mine) else ""
    raise InputError(
        f"the history of {where(source, at + row)} is not what stands before the row in the histories of all rows of its user: "
        f"{lists.lengths[row]} event(s) in the row, {lengths[row]} before its time ({listed.time!r}).{end} {CURE}"
    )
