"""Which rank reads which rows when, for one epoch. In: rows per row group, seed, epoch, world size; out: spans of rows per batch.

Row groups, shuffled, are joined into shuffle buffers of at least `shuffle_rows` rows; inside a buffer the rows are shuffled, with
`balance` so that every batch has about as many events (balance.py). Laid end to end the buffers give one sequence of positions
0 .. rows-1, the same for every world size, and each rank gets a contiguous piece of it:

    buffer      0 0 0 0 0 | 1 1 1 1 | 2 2 2 2 2
    position    0 1 2 3 4   5 6 7 8   9 ...  13
    rank of 3   0 0 0 0 0   1 1 1 1   1 2 2 2 2    (pieces differ by at most one row; buffer 2 is decoded by ranks 1 and 2)

So every row is read exactly once, and every rank knows, without asking, how many rows the others have in each step.
"""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from pydantic import TypeAdapter, ValidationError

from interformer_rec.config.data import DataConfig
from interformer_rec.data.balance import spread, together
from interformer_rec.errors import DamagedError, InputError
from interformer_rec.files import first_problem

Interval = tuple[int, int]  # positions start .. stop-1 of the epoch's sequence
MOST_ROWS = 1 << 62
MOST_RANKS = 1 << 20


class Span(NamedTuple):
    """Rows start .. stop-1 of a buffer, counted in the buffer's shuffled order."""

    buffer: int
    start: int
    stop: int


@dataclass(frozen=True)
class Cursor:
    """A place in an epoch: `step` batches of the plan are done. The same on every rank; `to_dict` goes into a checkpoint as JSON."""

    epoch: int
    step: int
    world_size: int
    batch_size: int
    intervals: tuple[Interval, ...]  # what the plan divided over the ranks: everything, or what an earlier plan left
    seed: int
    shuffle_rows: int
    # checksum of the row groups' sizes and the files' footers: another data set would silently give other rows
    layout: int
    balance: str = "none"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {**asdict(self), "intervals": [list(interval) for interval in self.intervals]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Cursor:
        """The inverse of `to_dict`, also after a trip through JSON. Raises DamagedError for what it never returns."""
        try:
            cursor = _CURSOR.validate_json(json.dumps(values), strict=True)
        except ValidationError as error:
            problem = first_problem(error)
            raise DamagedError(f"the place in the epoch that a checkpoint holds cannot be read: {problem}") from None
        edges = [edge for interval in cursor.intervals for edge in interval]
        rising = all(first <= second for first, second in itertools.pairwise([0, *edges, MOST_ROWS]))
        counts = all(0 <= count < MOST_ROWS for count in (cursor.epoch, cursor.step, cursor.shuffle_rows))
        sizes = 0 < cursor.batch_size < MOST_ROWS and 0 < cursor.world_size <= MOST_RANKS
        if not (rising and counts and sizes and cursor.seed >= 0):
            raise DamagedError(f"the place in the epoch that a checkpoint holds cannot be: {cursor!r:.200}")
        return cursor


_CURSOR = TypeAdapter(Cursor)


@dataclass(frozen=True, eq=False)
class Plan:
    """One epoch over `world_size` ranks. Made by `plan_epoch`, or by `remaining` from a cursor."""

    group_rows: np.ndarray  # (row groups,)
    world_size: int
    batch_size: int
    seed: int
    epoch: int
    shuffle_rows: int
    balance: str  # none, events: spread them evenly over a buffer's rows, groups: keep their rows together; none in file order
    intervals: tuple[Interval, ...]
    first_step: int = 0  # steps done before this plan's first batch
    checksum: int = 0  # of the files' footers

    @property
    def _layout(self) -> int:
        return zlib.crc32(np.ascontiguousarray(self.group_rows, "<i8").tobytes(), self.checksum)

    @cached_property
    def buffers(self) -> list[np.ndarray]:
        """Row groups of each buffer, ascending inside a buffer (rows are shuffled anyway; neighbours are read together)."""
        count = len(self.group_rows)
        if not self.shuffle_rows:
            return [np.array([group]) for group in range(count)]
        order = np.random.default_rng([self.seed, self.epoch]).permutation(count)
        ends = np.cumsum(self.group_rows[order])
        cuts, full = [0], 0
        while cuts[-1] < count:
            cuts.append(int(np.searchsorted(ends, full + self.shuffle_rows)) + 1)
            full = int(ends[min(cuts[-1], count) - 1])
        return [np.sort(order[start:stop]) for start, stop in itertools.pairwise(cuts)]

    @cached_property
    def buffer_rows(self) -> np.ndarray:
        """(buffers,) rows of each buffer."""
        return np.array([self.group_rows[buffer].sum() for buffer in self.buffers], np.int64)

    @cached_property
    def _buffer_ends(self) -> np.ndarray:
        return np.cumsum(self.buffer_rows)

    def order(
        self,
        buffer: int,
        events: np.ndarray | None = None,
        groups: np.ndarray | None = None,
        rows: int | None = None,
    ) -> np.ndarray:
        """(rows,) the buffer's rows in the order they are read; file order without shuffling.

        `events` or `groups`: (rows,) of the buffer's rows in file order, which a plan with that `balance` needs. `rows`: of requests,
        which are shuffled as a whole, where the plan counts their candidates.
        """
        rows = int(self.buffer_rows[buffer]) if rows is None else rows
        if not self.shuffle_rows:
            return np.arange(rows)
        random = np.random.default_rng([self.seed, self.epoch, buffer + 1])
        if self.balance == "none":
            return random.permutation(rows)
        if self.balance == "groups":
            assert groups is not None and len(groups) == rows
            return together(groups, random)
        assert events is not None and len(events) == rows
        return spread(events, random)

    def draws(self, buffer: int) -> np.random.Generator:
        """Random numbers for a buffer, the same in every epoch; not those of its shuffle."""
        return np.random.default_rng([self.seed, buffer])

    def epoch_draws(self, buffer: int) -> np.random.Generator:
        """Random numbers for a buffer, others in every epoch; not those of its shuffle."""
        return np.random.default_rng([self.seed, self.epoch, buffer + 1, 1])

    @cached_property
    def rank_rows(self) -> np.ndarray:
        """(world_size,) rows of each rank over the whole plan."""
        return np.diff(self._cuts)

    @cached_property
    def _cuts(self) -> np.ndarray:
        total = sum(stop - start for start, stop in self.intervals)
        return np.arange(self.world_size + 1, dtype=np.int64) * total // self.world_size

    @property
    def steps(self) -> int:
        """Batches that every rank yields: as many as the rank with the most rows needs."""
        return int(-(-self.rank_rows.max() // self.batch_size))

    def loss_rows(self, step: int) -> float:
        """Rows of a step over all ranks, divided by the world size."""
        left = np.clip(self.rank_rows - step * self.batch_size, 0, self.batch_size)
        return float(left.sum()) / self.world_size

    def batch(self, rank: int, step: int) -> list[Span]:
        """The rows of a rank's batch; none if the rank has run out."""
        start = int(self._cuts[rank]) + step * self.batch_size
        stop = min(start + self.batch_size, int(self._cuts[rank + 1]))
        return list(self._spans(_slice(self.intervals, start, stop)))

    def rank_buffers(self, rank: int) -> list[int]:
        """Units that a rank reads from `first_step` on, in order."""
        start = min(int(self._cuts[rank]) + self.first_step * self.batch_size, int(self._cuts[rank + 1]))
        piece = _slice(self.intervals, start, int(self._cuts[rank + 1]))
        return list(dict.fromkeys(span.buffer for span in self._spans(piece)))

    def _spans(self, intervals: tuple[Interval, ...]) -> Iterator[Span]:
        """Intervals of positions as pieces of buffers."""
        for start, stop in intervals:
            buffer = int(np.searchsorted(self._buffer_ends, start, side="right"))
            while start < stop:
                end = int(self._buffer_ends[buffer])
                begin = end - int(self.buffer_rows[buffer])
                if start < end:  # a buffer of requests without candidates has no rows
                    yield Span(buffer, start - begin, min(stop, end) - begin)
                start, buffer = end, buffer + 1

    def cursor(self, step: int) -> Cursor:
        """The place after `step` batches of this plan."""
        return Cursor(
            epoch=self.epoch,
            step=step,
            world_size=self.world_size,
            batch_size=self.batch_size,
            intervals=self.intervals,
            seed=self.seed,
            shuffle_rows=self.shuffle_rows,
            layout=self._layout,
            balance=self.balance,
        )

    def remaining(self, cursor: Cursor) -> Plan:
        """What is unread at `cursor`: the same batches for the same world and batch size, else cut anew for this plan's.

        Raises InputError if the cursor belongs to other data, another seed or another way to shuffle.
        """
        for what, ours, theirs in (
            ("files of data.train", self._layout, cursor.layout),
            ("seed", self.seed, cursor.seed),
            ("shuffle_rows", self.shuffle_rows, cursor.shuffle_rows),
            ("balance", self.balance, cursor.balance),
        ):
            if ours != theirs:
                values = "" if what.startswith("files") else f" ({theirs} then, {ours} now)"
                raise InputError(
                    f"cannot resume inside epoch {cursor.epoch}: the {what} changed since the checkpoint{values}; "
                    f"restore it, or start a new run"
                )
        if any(stop > int(self.group_rows.sum()) for _, stop in cursor.intervals):
            raise DamagedError(f"the place in epoch {cursor.epoch} that a checkpoint holds is behind the last row")
        before = replace(
            self,
            epoch=cursor.epoch,
            world_size=cursor.world_size,
            batch_size=cursor.batch_size,
            intervals=cursor.intervals,
        )
        if (self.world_size, self.batch_size) == (cursor.world_size, cursor.batch_size):
            return replace(before, first_step=cursor.step)
        unread: list[Interval] = []
        for rank in range(before.world_size):
            start = min(int(before._cuts[rank]) + cursor.step * before.batch_size, int(before._cuts[rank + 1]))
            for piece in _slice(before.intervals, start, int(before._cuts[rank + 1])):
                if unread and unread[-1][1] == piece[0]:
                    unread[-1] = (unread[-1][0], piece[1])
                else:
                    unread.append(piece)
        return replace(self, epoch=cursor.epoch, intervals=tuple(unread), first_step=0)


def plan_epoch(
    group_rows: np.ndarray,
    data: DataConfig,
    *,
    world_size: int = 1,
    seed: int = 0,
    epoch: int = 0,
    checksum: int = 0,
) -> Plan:
    """The plan of an epoch over row groups of these sizes; `shuffle_rows` 0 reads in file order, whatever `balance` is."""
    rows = np.asarray(group_rows, np.int64)
    balance = data.balance if data.shuffle_rows > 0 else "none"
    whole = ((0, int(rows.sum())),)
    return Plan(rows, world_size, data.batch_size, seed, epoch, data.shuffle_rows, balance, whole, checksum=checksum)


def _slice(intervals: tuple[Interval, ...], start: int, stop: int) -> tuple[Interval, ...]:
    """Elements start .. stop-1 of the intervals laid end to end."""
    out, base = [], 0
    for low, high in intervals:
        a, b = max(low, low + start - base), min(high, low + stop - base)
        if a < b:
            out.append((a, b))
        base += high - low
    return tuple(out)
