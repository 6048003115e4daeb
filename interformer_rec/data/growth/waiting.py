"""Ids that have no row yet, and how often each was seen over the windows. In: a window's new ids; out: which of them were seen enough.

Memory is bounded: at most `most` ids wait from one window to the next. While there are no more, counts are exact. Of more, those that
were not seen for longest are forgotten, among equals the rarest, then the larger ids; an id that was forgotten is counted from 0 again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from interformer_rec.data.growth.id_arrays import counted, joined, of_one_kind, taken


@dataclass(frozen=True)
class Waiting:
    """Ids without a row, each once; all three are equally long."""

    ids: pa.Array
    counts: np.ndarray  # int64
    seen: np.ndarray  # int64, the last window of each

    @classmethod
    def none(cls) -> Waiting:
        """Nobody."""
        return cls(pa.array([], pa.int64()), np.zeros(0, np.int64), np.zeros(0, np.int64))

    def counted_back(self, windows: int) -> Waiting:
        """The same after so many windows, for the next run: its first window is 0, the last one of this run -1."""
        return Waiting(self.ids, self.counts, self.seen - windows)

    def joined(self, others: Waiting) -> Waiting:
        """With others, none of which is among these."""
        ids, more = of_one_kind(self.ids, others.ids, "")
        counts, seen = np.concatenate([self.counts, others.counts]), np.concatenate([self.seen, others.seen])
        return Waiting(joined(ids, more), counts, seen)

    def with_counts(self, ids: pa.Array, times: np.ndarray, window: int, table: str) -> Waiting:
        """Add what a window has of ids without a row."""
        old, ids = of_one_kind(self.ids, ids, table)
        counts, seen, new = counted(old, self.counts, self.seen, ids, times, window)
        return Waiting(
            joined(old, taken(ids, new)),
            np.concatenate([counts, times[new]]),
            np.concatenate([seen, np.full(len(new), window)]),
        )

    def ready(self, min_count: int, window: int) -> np.ndarray:
        """Places of the ids that this window has and that were seen often enough: by falling count, then rising id."""
        at = np.flatnonzero((self.counts >= min_count) & (self.seen == window))
        return at[_order(-self.counts[at], taken(self.ids, at))]

    def without(self, gone: np.ndarray) -> Waiting:
        """Those whose entry in the mask is False."""
        stay = np.flatnonzero(~gone)
        return Waiting(taken(self.ids, stay), self.counts[stay], self.seen[stay])

    def at_most(self, most: int) -> Waiting:
        """Forget those that are too many."""
        if len(self.ids) <= most:
            return self
        last = np.lexsort((-self.counts, -self.seen))
        # only among those that are equal to the last one to stay do the ids themselves decide: sorting strings takes long
        edge = last[most - 1]
        equal = (self.seen == self.seen[edge]) & (self.counts == self.counts[edge])
        sure = last[:most][~equal[last[:most]]]
        among = np.flatnonzero(equal)
        among = among[_order(self.counts[among], taken(self.ids, among))]
        gone = np.ones(len(self.ids), bool)
        gone[sure] = gone[among[: most - len(sure)]] = False
        return self.without(gone)


def _order(keys: np.ndarray, ids: pa.Array) -> np.ndarray:
    """By rising key, then rising id."""
    table = pa.table({"key": keys, "id": ids})
    return np.asarray(pc.sort_indices(table, sort_keys=[("key", "ascending"), ("id", "ascending")])).astype(np.int64)
