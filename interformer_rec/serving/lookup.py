"""The lookup before the graphs. In: Rows of users and candidates; out: the arrays that a graph reads, in its order.

It does what model/embedding/lookup.py does in training: ids and bags become a vector each, events become rectangles, and for merge: union
the histories become one. Legend: N rows, T places, E events, w floats of a table row, k columns of a history.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from interformer_rec.config.features import FeatureSchema, Lookup
from interformer_rec.serving.rectangle import Reads, padded, places_of
from interformer_rec.serving.request import NO_ROW, Bags, Histories, Rows, Side
from interformer_rec.serving.tables import MappedTable

Tables = Mapping[str, MappedTable]


class GraphLookup:
    """Reads for one graph. A side's features may belong to users and still be read by a graph of candidates (no split)."""

    def __init__(self, features: FeatureSchema, reads: Reads, tables: Tables) -> None:
        self.reads, self.tables = reads, tables
        self.user, self.candidate = Side.both(features)
        self.pooling = {bag.name: bag.pooling for bag in features.bags}

    def __call__(self, users: Rows | None, candidates: Rows | None, owners: np.ndarray | None) -> list[np.ndarray]:
        """The inputs in the order of `reads.names`. `owners` spreads the users' features over the candidates; None: they stay a row a user.

        Raises IndexError for a row that a table does not have.
        """
        of_user = _Source(users, self.user, owners, self)
        of_candidate = _Source(candidates, self.candidate, None, self)

        def source(name: str) -> _Source:
            return of_candidate if of_candidate.has(name) else of_user

        found: list[np.ndarray] = []
        if self.reads.dense:
            found.append(np.stack([source(name).dense(name) for name in self.reads.dense], axis=1))
        for lookups in self.reads.fields.values():
            found.append(np.stack([source(field.key).vectors(field) for field in lookups], axis=1))
        if self.reads.groups:
            assert users is not None
            found += [part if owners is None else part[owners] for part in self._events(users)]
        return found

    def _events(self, users: Rows) -> list[np.ndarray]:
        """Of each user: the rectangles, the counts and a union's marks."""
        columns = [[column.table for column in group.columns] for group in self.reads.groups]
        values = [self._vectors(one.rows, tables) for one, tables in zip(users.histories, columns, strict=True)]
        counts = np.stack([one.lengths for one in users.histories], axis=1)
        if self.reads.union:
            return _united(users.histories, values, counts)
        places = self.reads.places(counts)
        parts = zip(values, users.histories, places, strict=True)
        return [*(padded(vectors, one.lengths, wide) for vectors, one, wide in parts), counts]

    def _vectors(self, rows: np.ndarray, tables: Sequence[str]) -> np.ndarray:
        """(E, k) -> (E, k * w)."""
        parts = [self.tables[table].take(rows[:, at]) for at, table in enumerate(tables)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


class _Source:
    """One side's features of a request, spread over the candidates where they are the users'."""

    def __init__(self, rows: Rows | None, side: Side, owners: np.ndarray | None, lookup: GraphLookup) -> None:
        self._rows, self._owners, self._lookup = rows, owners, lookup
        self._dense = {name: at for at, name in enumerate(side.dense)}
        self._ids = {name: at for at, name in enumerate(side.ids)}
        self._bags = {name: at for at, name in enumerate(side.bags)}

    def has(self, name: str) -> bool:
        return self._rows is not None and (name in self._dense or name in self._ids or name in self._bags)

    def _spread(self, values: np.ndarray) -> np.ndarray:
        return values if self._owners is None else values[self._owners]

    def dense(self, name: str) -> np.ndarray:
        """(N,) float32."""
        assert self._rows is not None
        return self._spread(self._rows.dense[:, self._dense[name]])

    def vectors(self, field: Lookup) -> np.ndarray:
        """(N, w) of an id or a bag."""
        assert self._rows is not None
        table = self._lookup.tables[field.table]
        if field.key in self._ids:
            return self._spread(_of_ids(table, self._rows.ids[:, self._ids[field.key]]))
        bag = self._rows.bags[self._bags[field.key]]
        return self._spread(_of_bag(table, bag, self._lookup.pooling[field.key] == "mean"))


def _of_ids(table: MappedTable, rows: np.ndarray) -> np.ndarray:
    absent = rows == NO_ROW
    if not absent.any():
        return table.take(rows)
    found = table.take(np.where(absent, 0, rows))
    found[absent] = 0.0
    return found


def _of_bag(table: MappedTable, bag: Bags, mean: bool) -> np.ndarray:
    """(N, w) sums or means; zeros for an empty bag."""
    found = np.zeros((len(bag.lengths), table.width), np.float32)
    filled = np.flatnonzero(bag.lengths)
    if filled.size:
        starts = (np.cumsum(bag.lengths) - bag.lengths)[filled]
        found[filled] = np.add.reduceat(table.take(bag.rows), starts, axis=0)
    if mean:
        found /= np.maximum(bag.lengths, 1)[:, None]
    return found


def _united(histories: Sequence[Histories], values: Sequence[np.ndarray], counts: np.ndarray) -> list[np.ndarray]:
    """The union as one rectangle, the counts with its own last, and its marks."""
    rows, lengths, marks = union([(one.rows[:, 0], one.lengths) for one in histories])
    places = places_of(lengths)
    return [
        padded(np.concatenate(values)[rows], lengths, places),
        np.concatenate([counts, lengths[:, None]], axis=1),
        padded(marks.astype(np.float32), lengths, places),
    ]


def union(groups: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What ops/glue.py's `union` gives, without torch: (ids (E_g,), lengths (N,)) a group -> rows (E,), lengths (N,), marks (E, G)."""
    span = 1 + max(int(ids.max(initial=0)) for ids, _ in groups)
    samples = [np.repeat(np.arange(len(lengths)), lengths) for _, lengths in groups]
    keys = [sample * span + ids for sample, (ids, _) in zip(samples, groups, strict=True)]
    starts = np.cumsum([0, *map(len, keys)])
    fresh = [
        np.flatnonzero(~np.isin(key, np.concatenate(keys[:g]))) if g else np.arange(len(key))
        for g, key in enumerate(keys)
    ]
    order = range(len(keys) - 1, -1, -1)
    owners = np.concatenate([samples[g][fresh[g]] for g in order])
    rows = np.concatenate([starts[g] + fresh[g] for g in order])
    marks = np.concatenate([np.stack([np.isin(keys[g][fresh[g]], key) for key in keys], axis=1) for g in order])
    by_sample = owners.argsort(kind="stable")
    return rows[by_sample], np.bincount(owners, minlength=len(groups[0][1])), marks[by_sample]


def lookups_of(features: FeatureSchema, reads: tuple[Reads, ...], tables: Tables) -> tuple[GraphLookup, ...]:
    """One for each graph."""
    return tuple(GraphLookup(features, one, tables) for one in reads)
