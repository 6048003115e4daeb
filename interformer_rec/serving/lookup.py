"""The lookup before the graphs. In: Rows of users and candidates; out: the arrays that a graph reads, in its order.

It does what model/embedding/lookup.py does in training: ids and bags become a vector each, events become rectangles, and for merge: union
the histories become one. Which columns stand where is worked out once, so that all ids of a file are one read, whatever tables they are of.
Legend: N rows, F fields, T places, E events, w floats of a table row, k columns of a history.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from interformer_rec.config.features import FeatureSchema, Lookup
from interformer_rec.serving.rectangle import Reads, padded, places_of, union
from interformer_rec.serving.request import NO_ROW, Bags, Histories, Rows, Side
from interformer_rec.serving.tables import MappedTable, TableFile, check_rows_of

Tables = Mapping[str, MappedTable]
Places = slice | np.ndarray  # along an axis


def places(numbers: Sequence[int]) -> Places:
    """A slice where they follow one another: numpy copies nothing then."""
    first = numbers[0]
    return (
        slice(first, first + len(numbers)) if [*numbers] == [*range(first, first + len(numbers))] else np.array(numbers)
    )


@dataclass(frozen=True)
class FileColumns:
    """Columns of rows of one file: a read of them."""

    source: Places  # of the columns
    place: Places  # in what the graph takes
    file: TableFile
    first: np.ndarray  # (columns,) row of the file at which each column's table begins
    rows: np.ndarray  # (columns,) of each table

    @classmethod
    def by_file(cls, columns: Sequence[tuple[int, int, MappedTable]]) -> list[FileColumns]:
        """(source, place, table) each."""
        files = {id(table.file): table.file for _, _, table in columns}
        found = []
        for key, file in files.items():
            mine = [one for one in columns if id(one[2].file) == key]
            source, place, tables = zip(*mine, strict=True)
            first, rows = (np.array([getattr(table, name) for table in tables]) for name in ("first", "rows"))
            found.append(cls(places(source), places(place), file, first, rows))
        return found

    def take(self, rows: np.ndarray) -> np.ndarray:
        """(N, all columns) -> (N, these, w). Raises IndexError for a row that a table does not have."""
        mine = rows[:, self.source]
        check_rows_of(mine, self.rows)
        return self.file.take(mine + self.first)

    def take_or_nothing(self, rows: np.ndarray) -> np.ndarray:
        """The same with zeros for NO_ROW."""
        mine = rows[:, self.source]
        absent = mine == NO_ROW
        if not absent.any():
            return self.take(rows)
        mine = np.where(absent, 0, mine)
        check_rows_of(mine, self.rows)
        found = self.file.take(mine + self.first)
        found[absent] = 0.0
        return found


class FieldsOfSide:
    """What one side gives to an input (N, F, w): columns of ids, and bags."""

    def __init__(self, lookups: Sequence[Lookup], side: Side, tables: Tables, mean: frozenset[str]) -> None:
        ids, bags = ({name: at for at, name in enumerate(names)} for names in (side.ids, side.bags))
        numbered = list(enumerate(lookups))
        self._ids = FileColumns.by_file(
            [(ids[one.key], at, tables[one.table]) for at, one in numbered if one.key in ids]
        )
        self._bags = [
            (bags[one.key], at, tables[one.table], one.key in mean) for at, one in numbered if one.key in bags
        ]

    def write(self, rows: Rows, owners: np.ndarray | None, into: np.ndarray) -> None:
        """Fill this side's fields; `owners` spreads them over the rows of `into`."""
        for columns in self._ids:
            values = columns.take_or_nothing(rows.ids)
            into[:, columns.place] = values if owners is None else values[owners]
        for source, place, table, mean in self._bags:
            pooled = _of_bag(table, rows.bags[source], mean)
            into[:, place] = pooled if owners is None else pooled[owners]


class GraphLookup:
    """Reads for one graph. A side's features may belong to users and still be read by a graph of candidates (no split)."""

    def __init__(self, features: FeatureSchema, reads: Reads, tables: Tables) -> None:
        self.reads, self._sides = reads, Side.both(features)
        mean = frozenset(bag.name for bag in features.bags if bag.pooling == "mean")
        self._fields = [
            (len(lookups), width, [FieldsOfSide(lookups, side, tables, mean) for side in self._sides])
            for width, lookups in reads.fields.items()
        ]
        self._dense = []  # of each side: its columns and where they stand
        for side in self._sides:
            found = [(side.dense.index(name), at) for at, name in enumerate(reads.dense) if name in side.dense]
            self._dense.append([places(one) for one in zip(*found, strict=True)] if found else None)
        self._events = [
            FileColumns.by_file([(at, at, tables[column.table]) for at, column in enumerate(group.columns)])
            for group in reads.groups
        ]

    def __call__(self, users: Rows | None, candidates: Rows | None, owners: np.ndarray | None) -> list[np.ndarray]:
        """The inputs in the order of `reads.names`. `owners` spreads the users' features over the candidates; None: they stay a row a user.

        Raises IndexError for a row that a table does not have.
        """
        sides = [(users, owners), (candidates, None)]
        count = next(len(owners) if owners is not None else rows.count for rows, owners in sides if rows is not None)
        found: list[np.ndarray] = []
        if self.reads.dense:
            into = np.empty((count, len(self.reads.dense)), np.float32)
            for at, (rows, spread) in zip(self._dense, sides, strict=True):
                if rows is not None and at is not None:
                    values = rows.dense[:, at[0]]
                    into[:, at[1]] = values if spread is None else values[spread]
            found.append(into)
        for fields, width, of_sides in self._fields:
            into = np.empty((count, fields, width), np.float32)
            for side, (rows, spread) in zip(of_sides, sides, strict=True):
                if rows is not None:
                    side.write(rows, spread, into)
            found.append(into)
        if self.reads.groups:
            assert users is not None
            found += [part if owners is None else part[owners] for part in self._histories(users.histories)]
        return found

    def _histories(self, histories: Sequence[Histories]) -> list[np.ndarray]:
        """Of each user: the rectangles, the counts and a union's marks."""
        counts = np.stack([one.lengths for one in histories], axis=1)
        if self.reads.union:
            return self._united(histories, counts)
        wide = self.reads.places(counts)
        parts = zip(self._events, histories, wide, strict=True)
        return [*(padded(_vectors(columns, one.rows), one.lengths, T) for columns, one, T in parts), counts]

    def _united(self, histories: Sequence[Histories], counts: np.ndarray) -> list[np.ndarray]:
        """The union as one rectangle, the counts with its own last, and its marks. All histories read the same tables, column by column."""
        kept, lengths, marks = union([(one.rows[:, 0], one.lengths) for one in histories])
        wide = places_of(lengths)
        events = np.concatenate([one.rows for one in histories]).take(kept, axis=0)
        return [
            padded(_vectors(self._events[0], events), lengths, wide),
            np.concatenate([counts, lengths[:, None]], axis=1),
            padded(marks.astype(np.float32), lengths, wide),
        ]


def _vectors(columns: Sequence[FileColumns], rows: np.ndarray) -> np.ndarray:
    """(E, k) -> (E, k * w)."""
    (events, count), width = rows.shape, columns[0].file.width
    if len(columns) == 1:
        return columns[0].take(rows).reshape(events, count * width)
    found = np.empty((events, count, width), np.float32)
    for one in columns:
        found[:, one.place] = one.take(rows)
    return found.reshape(events, count * width)


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


def lookups_of(features: FeatureSchema, reads: tuple[Reads, ...], tables: Tables) -> tuple[GraphLookup, ...]:
    """One for each graph."""
    return tuple(GraphLookup(features, one, tables) for one in reads)
