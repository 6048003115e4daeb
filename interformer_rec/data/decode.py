"""Arrow tables -> Columns: checked numpy arrays, one per kind of feature. In: a decoded row group; out: what batches are made of.

Everything is done here while the row group is in the cache: ids become table rows in the smallest type that holds them, and only the
newest events stay. What waits for the shuffle is so small as can be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa

from interformer_rec.data.arrays import Lists, dictionaries, flat, is_string, lists, numbers
from interformer_rec.data.bad_rows import BadRows
from interformer_rec.data.columns import Columns
from interformer_rec.data.dense import transform
from interformer_rec.data.fit import Fitted
from interformer_rec.data.histories import Read, check_times, newest, rows_of_places
from interformer_rec.data.ids import NULL_GROUP, RowMap, hash_strings, row_map
from interformer_rec.data.jagged import Jagged, compact
from interformer_rec.data.layout import Layout
from interformer_rec.schema import MISSING_ROW, BagFeature, DenseFeature, FeatureSchema, IdFeature, SequenceGroup

BLOCK = 512  # rows transposed at a time


class Decoder:
    """Turns tables with the schema's columns into Columns; made once, used by several threads."""

    def __init__(self, features: FeatureSchema, fitted: Fitted, *, labels: bool = True, skip_bad: bool = False) -> None:
        self.features, self.layout = features, Layout(features)
        self._labels, self._skip, self._moments = labels, skip_bad, fitted.moments
        self._maps = {n: row_map(n, table, fitted.vocabularies.get(n)) for n, table in features.tables.items()}
        self._single_type = _widest(self._maps[single.table].type for single in self.layout.singles)

    def __call__(self, table: pa.Table, where: Callable[[int], str]) -> Columns:
        """Decode and check; `where(row)` names a row in messages. Raises InputError for a bad row, or marks it."""
        bad = BadRows(table, where, self._skip)
        features, rows = self.features, table.num_rows
        dense = np.empty((rows, len(features.dense)), np.float32)
        for i, feature in enumerate(features.dense):
            dense[:, i] = self._dense(table, feature, bad)
        singles = np.empty((len(self.layout.singles), rows), self._single_type)
        for i, single in enumerate(self.layout.singles):
            singles[i] = self._ids(table[single.column], None, single.column, single.table, bad)
        jagged = [self._jagged(table, feature, bad) for feature in self.layout.jagged]
        labels = np.empty((rows, len(features.labels) if self._labels else 0), np.float32)
        weights, groups = np.ones(rows, np.float32), np.zeros(rows, np.int64)
        if self._labels:
            for i, label in enumerate(features.labels):
                labels[:, i] = _bounded(table, label.column, bad, "label", 1.0)
            if features.weight:
                weights = _bounded(table, features.weight, bad, "weight", None)
            if features.group:
                groups = _group_keys(table[features.group])
        return Columns(dense, _transpose(singles), jagged, labels, weights, groups, bad.codes, bad.reasons)

    def _dense(self, table: pa.Table, feature: DenseFeature, bad: BadRows) -> np.ndarray:
        values, null = flat(table[feature.column])
        with np.errstate(over="ignore"):  # too large for float32: infinite, and found below
            out = transform(values, null, feature, self._moments.get(feature.name)).astype(np.float32)
        wrong = ~np.isfinite(out)
        if wrong.any():
            empty = wrong & null if null is not None else np.zeros(len(out), bool)
            what = f"a null in dense feature {feature.name!r}, which has no `fill`"
            bad.add(feature.column, what, np.flatnonzero(empty), "Set `fill` on the feature")
            what = f"not a finite number in dense feature {feature.name!r}"
            bad.add(feature.column, what, np.flatnonzero(wrong & ~empty), "Correct the file")
        return out

    def _ids(self, ids: pa.ChunkedArray, bounds: Lists | None, column: str, table: str, bad: BadRows) -> np.ndarray:
        """(len(ids),) table rows; `bounds` where `ids` are the elements of lists."""
        map_ = self._maps[table]
        if is_string(ids.type):
            return _rows_of_strings(ids, map_)
        values, null = numbers(ids)
        outside = map_.outside(values)
        if outside is not None:
            self._report_outside(values, outside if null is None else outside & ~null, bounds, column, table, bad)
        rows = map_.ints(values)
        if null is not None:
            rows[null] = MISSING_ROW
        return rows

    def _report_outside(
        self, values: np.ndarray, outside: np.ndarray, bounds: Lists | None, column: str, table: str, bad: BadRows
    ) -> None:
        rows = places = np.flatnonzero(outside)
        if bounds is not None:
            rows, inside = rows_of_places(bounds, places)
            places = places[inside]
        size = self.features.tables[table].num_embeddings
        bad.add(
            column,
            f"an id outside 0 .. {size} - 1, the range of identity table {table!r}",
            np.unique(rows),
            "Correct the file, raise num_embeddings or use ids: vocab or hash",
            value=lambda row: int(values[places[rows == row][0]]),
        )

    def _jagged(self, table: pa.Table, feature: SequenceGroup | BagFeature | IdFeature, bad: BadRows) -> Jagged:
        if isinstance(feature, SequenceGroup):
            return self._sequence(table, feature, bad)
        column = table[feature.column]
        if isinstance(feature, IdFeature):  # nulls are absent
            rows = self._ids(column, None, feature.column, feature.table, bad)
            present = column.is_valid().to_numpy()
            return Jagged(present.astype(np.int64), rows[present, None])
        read = lists(column)
        rows = self._ids(read.values, read, feature.column, feature.table, bad)
        values = compact(rows, read.starts, read.lengths)
        if read.null is None or feature.null == "empty":
            return Jagged(read.lengths, values[:, None])
        lengths = np.where(read.null, 1, read.lengths)
        out = np.full(int(lengths.sum()), MISSING_ROW, rows.dtype)
        out[~np.repeat(read.null, lengths)] = values
        return Jagged(lengths, out[:, None])

    def _sequence(self, table: pa.Table, group: SequenceGroup, bad: BadRows) -> Jagged:
        names = [column.column for column in group.columns] + ([group.timestamp] if group.timestamp else [])
        read = [Read(name, lists(table[name])) for name in names]
        lengths, starts = newest(group, read, bad)
        type_ = _widest(self._maps[column.table].type for column in group.columns)
        events = np.empty((int(lengths.sum()), len(group.columns)), type_)
        for i, (column, (name, bounds), start) in enumerate(zip(group.columns, read, starts, strict=False)):
            events[:, i] = compact(self._ids(bounds.values, bounds, name, column.table, bad), start, lengths)
        if not group.timestamp:
            return Jagged(lengths, events)
        bounds = read[-1].bounds
        times, null = numbers(bounds.values)
        check_times(group.timestamp, bounds, times, null, bad)
        return Jagged(lengths, events, compact(times, starts[-1], lengths).astype(np.int64))


def _widest(types: Iterable[np.dtype]) -> np.dtype:
    return max(types, key=lambda type_: type_.itemsize, default=np.dtype(np.uint8))


def _transpose(values: np.ndarray) -> np.ndarray:
    """(n, m) -> (m, n), block by block so that both sides stay in the cache."""
    out = np.empty(values.shape[::-1], values.dtype)
    for start in range(0, len(out), BLOCK):
        out[start : start + BLOCK] = values[:, start : start + BLOCK].T
    return out


def _rows_of_strings(column: pa.ChunkedArray, map_: RowMap) -> np.ndarray:
    """(n,) table rows; nulls read the missing row."""
    parts = []
    for distinct, indices, null in dictionaries(column):
        known = map_.strings(distinct)
        rows = np.append(known, known.dtype.type(MISSING_ROW)).take(indices)
        if null is not None:
            rows[null] = MISSING_ROW
        parts.append(rows)
    if not parts:
        return map_.strings(pa.array([], pa.string()))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _bounded(table: pa.Table, column: str, bad: BadRows, kind: str, high: float | None) -> np.ndarray:
    """(rows,) float32 of a label (0 .. 1) or weight (0 and up)."""
    values, null = flat(table[column])
    out = values.astype(np.float32)
    if null is not None:
        out[null] = np.nan
    good = (out >= 0) & (out <= high if high is not None else np.isfinite(out))
    if not good.all():
        cure = "Correct the file or filter such rows out when writing it"
        allowed = "a finite number of at least 0" if high is None else "between 0 and 1"
        bad.add(column, f"a {kind} that is not {allowed}", np.flatnonzero(~good), cure)
    return out


def _group_keys(column: pa.ChunkedArray) -> np.ndarray:
    """(rows,) int64: integers as they are, strings hashed; all nulls share NULL_GROUP."""
    if not is_string(column.type):
        values, null = numbers(column)
        parts = [(values.astype(np.int64), null)]
    else:
        read = dictionaries(column)
        parts = [(np.append(hash_strings(d).view(np.int64), NULL_GROUP).take(i), null) for d, i, null in read]
    for keys, null in parts:
        if null is not None:
            keys[null] = NULL_GROUP
    return np.concatenate([keys for keys, _ in parts])
