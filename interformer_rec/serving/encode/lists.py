"""Bags and histories of requests. In: lists as JSON writes them, one a row; out: the Bags and Histories of serving/request.

All elements are checked, those too old to be kept as well, as they are in training.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from interformer_rec.config.features import MISSING_ROW, BagFeature, SequenceGroup
from interformer_rec.serving.encode.clock import nanoseconds
from interformer_rec.serving.encode.ids import END, INTEGERS, Ids, is_unsigned, whole
from interformer_rec.serving.encode.refusal import Wrong, one_by_one, shown
from interformer_rec.serving.request import Bags, Histories


class WrongElement(Exception):
    """A Wrong in a list: of which column, row and, where it is about one, element."""

    def __init__(self, column: str, wrong: Wrong, row: int, element: int | None) -> None:
        super().__init__(wrong.what)
        self.column, self.wrong, self.row, self.element = column, wrong, row, element


class Elements:
    """The lists of a column, end to end; a null list has no element. Raises WrongElement for what is no list."""

    def __init__(self, column: str, lists: list[Any]) -> None:
        self.column = column
        for row, given in enumerate(lists):
            if type(given) is not list and given is not None:
                raise WrongElement(column, Wrong("no list", "Write a list, or null", given), row, None)
        given = lists if None not in lists else [one or [] for one in lists]
        self.lengths = np.array([len(one) for one in given], np.int64)
        self.values: list[Any] = given[0] if len(given) == 1 else list(chain.from_iterable(given))

    def rows(self, ids: Ids) -> np.ndarray:
        """(n,) int64 table rows of all elements. Raises WrongElement."""
        try:
            return ids.many(self.values)
        except Wrong as wrong:
            raise self.wrong(wrong) from None

    def wrong(self, wrong: Wrong) -> WrongElement:
        """The same, with its row and its element."""
        row = int(np.searchsorted(np.cumsum(self.lengths), wrong.at, side="right"))
        return WrongElement(self.column, wrong, row, wrong.at - int(self.lengths[:row].sum()))


class BagColumn:
    """One bag feature."""

    def __init__(self, feature: BagFeature, ids: Ids) -> None:
        self._column, self._ids, self._null_is_row = feature.column, ids, feature.null == "row"

    def __call__(self, columns: Mapping[str, list[Any]]) -> Bags:
        """Raises WrongElement."""
        lists = columns[self._column]
        elements = Elements(self._column, lists)
        rows, lengths = elements.rows(self._ids), elements.lengths
        if self._null_is_row and None in lists:
            null = np.array([one is None for one in lists])
            at = np.repeat(np.cumsum(lengths) - lengths, null)
            rows, lengths = np.insert(rows, at, MISSING_ROW), lengths + null
        return Bags(rows, lengths)


class HistoryColumns:
    """One sequence group: its newest events."""

    def __init__(self, group: SequenceGroup, ids: list[Ids], times: Times | None) -> None:
        self._group, self._times = group, times
        self._ids = list(zip([column.column for column in group.columns], ids, strict=True))

    def __call__(self, columns: Mapping[str, list[Any]]) -> Histories:
        """Raises WrongElement."""
        read = [(Elements(column, columns[column]), ids) for column, ids in self._ids]
        first = read[0][0]
        for elements, _ in read[1:]:
            self._check_aligned(first, elements)
        if self._times is not None:
            elements = Elements(str(self._group.timestamp), columns[str(self._group.timestamp)])
            self._check_aligned(first, elements)
            self._times.check(elements)
        lengths = np.minimum(first.lengths, self._group.max_length)
        rows = np.empty((len(first.values), len(read)), np.int64)
        for place, (elements, ids) in enumerate(read):
            rows[:, place] = elements.rows(ids)
        if len(rows) > lengths.sum():
            rows = rows[_newest(first.lengths, lengths)]
        return Histories(rows, lengths)

    def _check_aligned(self, first: Elements, other: Elements) -> None:
        if not np.array_equal(first.lengths, other.lengths):
            row = int(np.flatnonzero(first.lengths != other.lengths)[0])
            wrong = Wrong(
                f"a list of {other.lengths[row]} elements, where {shown(first.column)} of the same history "
                f"{shown(self._group.name)} has {first.lengths[row]}",
                "Write one element an event in every column of a history",
                None,
            )
            raise WrongElement(other.column, wrong, row, None)


class Times:
    """The times of a history's events, which are checked and not kept: integers, or text where the training files had timestamps."""

    def __init__(self, type_: pa.DataType) -> None:
        self._type, self._end = type_, 2 * END if is_unsigned(type_) else END

    def check(self, elements: Elements) -> None:
        """Raises WrongElement unless every event has a time, and none is before the one in front of it."""
        try:
            times = self._read(elements.values)
        except Wrong as wrong:
            raise elements.wrong(wrong) from None
        falls = np.flatnonzero(times[1:] < times[:-1]) + 1
        falls = falls[~np.isin(falls, np.cumsum(elements.lengths))] if len(elements.lengths) > 1 else falls
        if len(falls):
            at = int(falls[0])
            what = "a time before the one in front of it (events must be oldest first)"
            raise elements.wrong(Wrong(what, "Sort the events by time", elements.values[at], at))

    def _read(self, values: list[Any]) -> np.ndarray:
        if INTEGERS.issuperset(map(type, values)) and not pa.types.is_timestamp(self._type):
            try:
                return np.array(values, np.int64)
            except OverflowError:
                pass
        return np.array(one_by_one(self._one, values), np.int64)

    def _one(self, value: Any) -> int:
        if value is None:
            raise Wrong("a null among the times", "Give every event a time", value)
        if pa.types.is_timestamp(self._type):
            since = nanoseconds(value, self._type.tz is not None)
            return since // 1000 if since >= 0 else -(-since // 1000)  # cut off, as Arrow does
        if pa.types.is_null(self._type):
            raise Wrong("a time, where all training files have null", "Write an empty history", value)
        return whole(value, self._end)


def _newest(lengths: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Places of the last `kept` of `lengths` elements of each row."""
    starts = np.cumsum(lengths) - kept
    return np.repeat(starts - (np.cumsum(kept) - kept), kept) + np.arange(int(kept.sum()))
