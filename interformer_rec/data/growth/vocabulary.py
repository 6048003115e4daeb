"""A growing table's ids and their rows. In: how often each id is in a window; out: the vocabulary of that window, and what changed.

A pure function of its inputs: ranks, plans and devices do not come into it, and ties are broken by the ids. Rows are counted without the
special rows of the table here, so that row k of the vocabulary is row special_rows + k of the table; a VocabularyChange has rows of the
table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from interformer_rec.config.features import UNKNOWN_ROW
from interformer_rec.config.growth import Growth
from interformer_rec.data.growth.id_arrays import counted, joined, of_one_kind, taken
from interformer_rec.data.growth.waiting import Waiting

LEAST_WAITING = 1 << 16  # ids may wait in a small table; in a larger one as many as it has rows
NEVER = -1  # what a free row has for its last window
FIRST = UNKNOWN_ROW + 1  # row of the table of the vocabulary's first


@dataclass(frozen=True)
class VocabularyChange:
    """From one vocabulary of a growing table to the next: first rows are freed, then ids get rows, which may be the freed ones."""

    ids: pa.Array  # admitted
    rows: np.ndarray  # (len(ids),) int64: rows of the table that they get
    freed: np.ndarray  # int64, ascending: rows of the table that lost their ids
    for_room: int = 0  # of the freed ones, how many for want of room and not for `keep`
    left: int = 0  # ids that were seen often enough and found no room: they wait

    @classmethod
    def nothing(cls, vocabulary: pa.Array) -> VocabularyChange:
        """All ids of a vocabulary keep their rows, and none is new."""
        none = np.zeros(0, np.int64)
        return cls(vocabulary.slice(0, 0), none, none)

    def applied(self, vocabulary: pa.Array) -> pa.Array:
        """The vocabulary after this change of the one before it."""
        old, ids = of_one_kind(vocabulary, self.ids, "")
        at = np.arange(len(old))
        at[self.freed - FIRST] = -1
        at[self.rows - FIRST] = len(old) + np.arange(len(ids))
        return taken(joined(old, ids), at)

    @classmethod
    def between(cls, before: pa.Array, after: pa.Array) -> VocabularyChange:
        """From one vocabulary of a table to a later one, over any number of windows."""
        old, new = of_one_kind(before, after, "")
        stays = np.asarray(pc.fill_null(pc.equal(old, new), False))
        had, has = (ids.is_valid().to_numpy(zero_copy_only=False) for ids in (old, new))
        rows = np.flatnonzero(has & ~stays)
        return cls(taken(new, rows), rows + FIRST, np.flatnonzero(had & ~stays) + FIRST)


@dataclass(frozen=True)
class GrowingVocabulary:
    """State after `windows` windows; a null of `ids` is a free row."""

    ids: pa.Array  # (rows,) of each row, int64 or large_string
    counts: np.ndarray  # (rows,) int64: how often it was seen, the times before it was admitted too; 0 of a free row
    # (rows,) int64: the last window that had it; below 0: one of the run that this one began with, -1 its last
    seen: np.ndarray
    waiting: Waiting  # its windows are counted in the same way
    windows: int = 0  # that were counted; the next one has this number

    @classmethod
    def empty(cls, rows: int) -> GrowingVocabulary:
        """Of a table nobody has trained."""
        zeros = np.zeros(rows, np.int64)
        return cls(pa.nulls(rows, pa.int64()), zeros, zeros + NEVER, Waiting.none())

    @classmethod
    def begun(
        cls, rows: int, ids: pa.Array, counts: np.ndarray, ages: np.ndarray, waiting: Waiting | None = None
    ) -> GrowingVocabulary:
        """Of a table that begins with the ids of another run, nulls left out; each was seen so many times, and last `ages` windows ago (at
        least 1). Where they are more than `rows`, those that were seen last stay, among equals the most frequent; the others wait.

        `waiting`: the ids that had no row there, by windows of that run counted back from its end: -1 its last.
        """
        at = np.flatnonzero(ids.is_valid().to_numpy(zero_copy_only=False))
        ids = ids.cast(pa.int64() if pa.types.is_integer(ids.type) else pa.large_string())
        order = at[np.lexsort((at, -counts[at], ages[at]))]
        at, rest = np.sort(order[:rows]), np.sort(order[rows:])
        found = cls.empty(rows)
        found.counts[: len(at)], found.seen[: len(at)] = counts[at], -ages[at]
        places_ = np.concatenate([at, np.full(rows - len(at), -1)])
        waits = Waiting(taken(ids, rest), counts[rest], -ages[rest])
        if waiting is not None:
            waits = waits.joined(waiting)
        return cls(taken(ids, places_), found.counts, found.seen, waits.at_most(max(LEAST_WAITING, rows)))

    def grown(
        self, ids: pa.Array, times: np.ndarray, rule: Growth, table: str
    ) -> tuple[GrowingVocabulary, VocabularyChange]:
        """After the next window, which has `ids` so many `times`. Raises InputError for ids of another kind than before."""
        window = self.windows
        own, ids = of_one_kind(self.ids, ids, table)
        counts, seen, new = counted(own, self.counts, self.seen, ids, times, window)
        if not len(new) and not len(self.waiting.ids) and rule.keep is None:  # most tables of a model in most windows
            return replace(self, ids=own, counts=counts, seen=seen, windows=window + 1), VocabularyChange.nothing(own)
        waiting = self.waiting.with_counts(taken(ids, new), times[new], window, table)
        ready = waiting.ready(rule.min_count, window)
        free = ~own.is_valid().to_numpy(zero_copy_only=False)
        freed, for_room = _to_free(~free, seen, counts, window, rule.keep, len(ready))
        free[freed] = True
        rows = np.flatnonzero(free)[: len(ready)]
        admitted = ready[: len(rows)]
        change = VocabularyChange(
            taken(waiting.ids, admitted), rows + FIRST, freed + FIRST, for_room, len(ready) - len(rows)
        )
        seen[freed], counts[freed] = NEVER, 0
        seen[rows], counts[rows] = window, waiting.counts[admitted]
        gone = np.zeros(len(waiting.ids), bool)
        gone[admitted] = True
        if rule.keep is not None:
            gone |= window - waiting.seen >= rule.keep
        waiting = waiting.without(gone).at_most(max(LEAST_WAITING, len(own)))
        return GrowingVocabulary(change.applied(own), counts, seen, waiting, window + 1), change


def _to_free(
    used: np.ndarray, seen: np.ndarray, counts: np.ndarray, window: int, keep: int | None, new: int
) -> tuple[np.ndarray, int]:
    """Rows to free, ascending, so that `new` ids may find room, and how many of them only for that.

    The ones that `keep` gives up go in any case. Then those that this window has not, the longest unseen first, among equals the rarest,
    then the lower row. What this window has stays.
    """
    old = used & (window - seen >= keep) if keep is not None else np.zeros(len(seen), bool)
    missing = new - int(np.count_nonzero(~used | old))
    if missing <= 0:
        return np.flatnonzero(old), 0
    others = np.flatnonzero(used & ~old & (seen < window))
    chosen = others[np.lexsort((others, counts[others], seen[others]))[:missing]]
    old[chosen] = True
    return np.flatnonzero(old), len(chosen)
