"""History pre-training: replaces each row with an earlier event of the same user; features are as they were at that time.

In: a shuffle buffer's Columns; out: as many rows.

A row has one label. Its history holds up to max_length earlier exposures, and the other histories say what came of them: labels
that nobody has to log. The event's ids take the candidate's place, by table; it has a label if it also stands in the history that
`labels` names (long_watch: what was watched for long); of the histories the events before it stay. What an event does not hold of the
candidate is missing; user and context stay the row's.

What came of an event is matched by time where the histories have times (`timestamp`): an outcome belongs to the newest exposure of its
item that is not later. Without times it is matched by the item, so an item that stands in a row's history more than once is not drawn
from that row: nobody knows which of its exposures had the outcome.

    row      candidate v9   watch v1 v2 v3 v4   long_watch v2 v3     its event v3 is drawn:
    becomes  candidate v3   watch v1 v2         long_watch v2        label 1

Each event of a user is trained on once, though it stands in many rows, and not at all if it is a row itself: a label that is seen twice
is memorised. Events are drawn from all of a buffer's (the schema's `group` identifies users), other ones in each epoch.

Where rows are candidates of requests, a request's history is looked at once, and each event that is drawn is a request with one
candidate: it has a history of its own. The same events are drawn as from impressions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from interformer_rec.config.features import MISSING_ROW, BagFeature, FeatureSchema, IdFeature
from interformer_rec.config.history_pretraining import HistoryPretrainingConfig, event_columns
from interformer_rec.config.request import sides
from interformer_rec.data.decode.columns import Columns, Requests
from interformer_rec.data.decode.dense import transform
from interformer_rec.data.decode.jagged import Jagged
from interformer_rec.data.decode.layout import Layout


class _Told(NamedTuple):
    """Rows with their histories: the requests of candidates, or impressions."""

    once: Columns
    of: np.ndarray | slice  # (rows,) which of `once` each row of the buffer has; all: impressions
    good: np.ndarray  # (rows,) bool, of the buffer
    first: np.ndarray  # (once,) the first good row of the buffer that has it, 0 where there is none
    told: np.ndarray  # (once,) bool: whether there is one

    @property
    def left_over(self) -> int:
        """Of `once`, for rows that no event is left for: what a bad row holds is not to be read."""
        return int(np.argmax(self.told))

    @classmethod
    def by(cls, columns: Columns) -> _Told:
        """Of a buffer's."""
        good = np.ones(len(columns.weights), bool) if columns.bad is None else columns.bad == 0
        if columns.requests is None:
            return cls(columns, slice(None), good, np.arange(len(good)), good)
        once, of = columns.requests.columns, columns.requests.of
        first, told = np.zeros(len(once.weights), np.int64), np.zeros(len(once.weights), bool)
        rows = np.flatnonzero(good)
        first[of[rows[::-1]]] = rows[::-1]
        told[of[rows]] = True
        return cls(once, of, good, first, told)


class EventSampler:
    """Made once, of options that were checked; used by several threads."""

    def __init__(self, features: FeatureSchema, options: HistoryPretrainingConfig) -> None:
        shown = features if features.request is None else sides(features)[1]
        layout = Layout(shown)
        groups = [group.name for group in features.sequences]
        self._history = groups.index(options.history)
        self._labels = [groups.index(options.labels[label.name]) for label in features.labels]
        self._groups, self._has_group = len(groups), features.group is not None
        self._lists_from = len(shown.sequences)  # the candidate's in a buffer's columns
        self._timed = all(features.sequences[at].timestamp for at in (self._history, *self._labels))
        column_of = event_columns(features, options.history)
        candidate = set(features.candidate)
        self._singles = [(i, column_of.get(f.name)) for i, f in enumerate(layout.singles) if f.name in candidate]
        self._lists = [
            (i, column_of.get(f.name), isinstance(f, BagFeature) and f.null != "empty")
            for i, f in enumerate(layout.jagged)
            if isinstance(f, IdFeature | BagFeature) and f.name in candidate
        ]
        self._item = next(i for i, column in self._singles if column == 0)
        # the mean of a standardised feature is 0
        self._dense = [
            (i, 0.0 if f.standardise else float(transform(np.array([f.fill or 0.0]), None, f)[0]))
            for i, f in enumerate(shown.dense)
            if f.name in candidate
        ]

    def __call__(self, columns: Columns, epoch: int, random: np.random.Generator) -> Columns:
        """As many rows, each an event; those left over when the events have run out weigh 0. `random`: the same in each epoch.

        Bad rows come last and have no events: the others are what they were without them.
        """
        count = len(columns.weights)
        if not count:  # requests without candidates
            return columns
        told = _Told.by(columns)
        once, good, history = told.once, told.good, told.once.jagged[self._history]
        rows = int(good.sum())
        events = random.permutation(self._usable(columns, told))[epoch * rows : (epoch + 1) * rows]
        row = np.full(count, told.left_over, np.int64)
        row[: len(events)] = np.searchsorted(history.offsets, events, side="right") - 1
        place = np.zeros(count, np.int64)
        place[: len(events)] = events - history.offsets[row[: len(events)]]
        at = told.first[row]
        dense, singles, lists = self._candidate(columns, at, history.events[events])
        histories, labels = self._before(once, row, place, columns.labels.shape[1])
        requests = None
        if columns.requests is not None:
            requests = Requests(self._own(once, row, histories), np.arange(count), columns.requests.numbers[row])
        return replace(
            columns,
            dense=dense,
            singles=singles,
            jagged=[*histories, *lists] if requests is None else lists,
            labels=labels,
            weights=np.where(np.arange(count) < len(events), columns.weights[at], np.float32(0)),
            groups=columns.groups[at],
            bad=None if columns.bad is None else np.concatenate([columns.bad[good], columns.bad[~good]]),
            requests=requests,
        )

    def _own(self, once: Columns, row: np.ndarray, histories: list[Jagged]) -> Columns:
        """`row` of the requests with other histories."""
        rest = [_picked(one, row, one.lengths[row]) for one in once.jagged[self._groups :]]
        parts = (once.labels[row], once.weights[row], once.groups[row])
        return Columns(once.dense[row], once.singles[row], [*histories, *rest], *parts)

    def count(self, columns: Columns) -> tuple[int, int]:
        """Events of these rows that can be drawn, each once, and good rows."""
        told = _Told.by(columns)
        return len(self._usable(columns, told)), int(told.good.sum())

    def _usable(self, columns: Columns, told: _Told) -> np.ndarray:
        """Places in the events of good rows: each event of a user once, where it stands first, and none that is a good row."""
        once, history = told.once, told.once.jagged[self._history]
        rows = np.arange(len(once.weights))
        user = np.unique(once.groups if self._has_group else rows, return_inverse=True)[1]
        inside = np.flatnonzero(np.repeat(told.told, history.lengths))
        if not self._timed:
            inside = inside[_alone(np.repeat(rows, history.lengths)[inside], history.events[inside, 0])]
        events = _keys(np.repeat(user, history.lengths)[inside], history.events[inside, 0])
        keys, places = np.unique(events, return_index=True)
        exposures = _keys(user[told.of], columns.singles[:, self._item])[told.good]
        return np.sort(inside[places[~_among(keys, np.sort(exposures))]])

    def _before(
        self, columns: Columns, row: np.ndarray, place: np.ndarray, tasks: int
    ) -> tuple[list[Jagged], np.ndarray]:
        """The histories of `row` as they stood before the event at `place`, and its labels (rows, tasks)."""
        history = columns.jagged[self._history]
        event = _Drawn(history, row, place)
        labels = np.zeros((len(row), tasks), np.float32)
        histories = []
        for at, group in enumerate(columns.jagged[: self._groups]):
            if at == self._history:
                histories.append(_picked(group, row, place))
                continue
            whole = _picked(group, row, group.lengths[row])
            timed = history.timestamps is not None and whole.timestamps is not None
            histories.append(_kept(whole, event.earlier(whole) if timed else event.not_later(whole)))
            for task in (task for task, of in enumerate(self._labels) if of == at):
                labels[event.had(whole, timed), task] = 1
        return histories, labels

    def _candidate(
        self, columns: Columns, row: np.ndarray, events: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, list[Jagged]]:
        """Dense, single and list features of `row` with the events as the first ones' candidates."""
        dense, singles, lists = columns.dense[row], columns.singles[row], columns.jagged[self._lists_from :]
        for i, value in self._dense:
            dense[:, i] = value
        for i, column in self._singles:
            singles[:, i] = MISSING_ROW
            if column is not None:
                singles[: len(events), i] = events[:, column]
        lists = [_picked(jagged, row, jagged.lengths[row]) for jagged in lists]
        for i, column, missing in self._lists:
            ids = np.full((len(row), 1), MISSING_ROW, columns.jagged[i].events.dtype)
            if column is not None:
                ids[: len(events), 0] = events[:, column]
            present = (ids[:, 0] != MISSING_ROW) | missing
            lists[i - self._lists_from] = Jagged(present.astype(np.int64), ids[present])
        return dense, singles, lists


class _Drawn:
    """One event of each of some rows, and what the rows' histories say of it. `whole`: another history of these rows, whole."""

    def __init__(self, history: Jagged, row: np.ndarray, place: np.ndarray) -> None:
        rest = history.lengths[row] - place  # the event and what came later
        starts = history.offsets[row] + place
        self._owner = np.repeat(np.arange(len(row)), rest)
        self._later = _slices(history.events[:, 0], starts, rest)
        self._there = rest > 0  # else the row's history is empty
        self._first = (np.cumsum(rest) - rest)[self._there]
        self._item = np.full(len(row), -1, np.int64)
        self._item[self._there] = self._later[self._first]
        if history.timestamps is not None:
            self._begin, self._end = self._span(_slices(history.timestamps, starts, rest))

    def _span(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(rows,) int64 each: when the event was, and when its item was there again in the row's history."""
        never = np.iinfo(np.int64).max
        begin, end = np.full((2, len(self._item)), never)
        begin[self._there] = times[self._first]
        again = np.flatnonzero((self._later == self._item[self._owner]) & (times > begin[self._owner]))
        np.minimum.at(end, self._owner[again], times[again])
        return begin, end

    def earlier(self, whole: Jagged) -> np.ndarray:
        """(events,) bool: those of `whole` from before the event, by time."""
        assert whole.timestamps is not None
        return np.asarray(whole.timestamps < np.repeat(self._begin, whole.lengths))

    def not_later(self, whole: Jagged) -> np.ndarray:
        """(events,) bool: those of `whole` whose item is neither the event's nor among the later ones."""
        owner = np.repeat(np.arange(len(whole.lengths)), whole.lengths)
        return ~_among(_keys(owner, whole.events[:, 0]), np.sort(_keys(self._owner, self._later)))

    def had(self, whole: Jagged, timed: bool) -> np.ndarray:
        """Numbers of the rows whose event `whole` has as an outcome."""
        owner = np.repeat(np.arange(len(whole.lengths)), whole.lengths)
        same = self._there[owner] & (whole.events[:, 0] == self._item[owner])
        if timed:
            assert whole.timestamps is not None
            same &= (whole.timestamps >= self._begin[owner]) & (whole.timestamps < self._end[owner])
        return np.unique(owner[same])


def _alone(owners: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """(n,) bool: which ids their owner has once."""
    keys = _keys(owners, ids)
    order = np.argsort(keys)  # np.unique with its inverse and counts takes twice the memory
    keys = keys[order]
    same = keys[1:] == keys[:-1]
    alone = np.ones(len(keys), bool)
    alone[order[1:][same]] = alone[order[:-1][same]] = False
    return alone


def _keys(owners: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """int64: owner and id in one number."""
    return owners.astype(np.int64) << 32 | ids.astype(np.int64)


def _among(keys: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(keys,) bool: which stand in `others`, sorted. np.isin would sort several times, and here neighbours are found close together."""
    ordered = np.append(others, np.iinfo(np.int64).max)
    return ordered[np.searchsorted(ordered, keys)] == keys


def _slices(values: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """values[start : start + length] of each pair, end to end."""
    ends = np.cumsum(lengths)
    places = np.repeat(starts - (ends - lengths), lengths)
    places += np.arange(len(places))
    return values.take(places, axis=0)


def _picked(group: Jagged, row: np.ndarray, lengths: np.ndarray) -> Jagged:
    """The first `lengths` events of these rows."""
    starts = group.offsets[row]
    times = None if group.timestamps is None else _slices(group.timestamps, starts, lengths)
    return Jagged(lengths, _slices(group.events, starts, lengths), times)


def _kept(group: Jagged, keep: np.ndarray) -> Jagged:
    """The events of `keep` (events,) alone."""
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(keep)])
    times = None if group.timestamps is None else group.timestamps[keep]
    return Jagged(np.diff(ends[group.offsets]), group.events[keep], times)
