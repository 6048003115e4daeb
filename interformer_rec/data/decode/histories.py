"""Sequence groups: aligned list columns -> Jagged. In: a group's columns of one row group; out: its newest events, as table rows."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from interformer_rec.config.features import SequenceGroup
from interformer_rec.data.decode.arrays import Lists, Mask
from interformer_rec.data.decode.bad_rows import BadRows
from interformer_rec.data.decode.jagged import compact


class Read(NamedTuple):
    """A list column as it was read."""

    name: str
    bounds: Lists


def newest(group: SequenceGroup, columns: Sequence[Read], bad: BadRows) -> tuple[np.ndarray, list[np.ndarray]]:
    """Lengths (rows,) of what is kept, and where it starts in each column; checks that the columns are aligned."""
    first = columns[0].bounds
    lengths = np.minimum(first.lengths, group.max_length)
    for column in columns[1:]:
        differ = column.bounds.lengths != first.lengths
        if differ.any():
            _report(group, columns[0], column, np.flatnonzero(differ), bad)
            lengths[differ] = 0
    return lengths, [column.bounds.starts + (column.bounds.lengths - lengths) for column in columns]


def _report(group: SequenceGroup, first: Read, other: Read, rows: np.ndarray, bad: BadRows) -> None:
    bad.add(
        other.name,
        f"a list of another length than column {first.name!r} of the same sequence group {group.name!r}",
        rows,
        "Write one element per event in every column of a group",
        value=lambda row: f"{other.bounds.lengths[row]} elements, {first.name!r} has {first.bounds.lengths[row]}",
    )


def check_times(column: str, bounds: Lists, times: np.ndarray, null: Mask, bad: BadRows) -> None:
    """Timestamps of a row must be there and must not decrease."""
    if null is not None:
        rows = np.unique(rows_of_places(bounds, np.flatnonzero(null))[0])
        bad.add(column, "a null among the timestamps", rows, "Give every event a time")
    lengths = bounds.lengths
    times = compact(times, bounds.starts, lengths)
    falls = np.flatnonzero(times[1:] < times[:-1]) + 1
    if len(falls):
        ends = np.cumsum(lengths)
        rows = np.searchsorted(ends, falls, side="right")
        within = falls != ends[rows] - lengths[rows]  # a fall between two rows is none
        what = "timestamps that decrease (events must be oldest first)"
        bad.add(column, what, np.unique(rows[within]), "Sort the events by time")


def rows_of_places(bounds: Lists, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows whose lists hold the values at `places` (ascending), and a mask of the places that any row holds."""
    rows = np.searchsorted(bounds.starts, places, side="right") - 1
    inside = (rows >= 0) & (places < bounds.starts[rows] + bounds.lengths[rows])
    return rows[inside], inside
