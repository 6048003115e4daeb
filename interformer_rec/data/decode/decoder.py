"""Arrow tables -> Columns: checked numpy arrays, one per kind of feature. In: a decoded row group; out: what batches are made of.

Everything is done here while the row group is in the cache: ids become table rows in the smallest type that holds them, and only the
newest events stay. What waits for the shuffle is so small as can be.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pyarrow as pa

from interformer_rec.config.features import (
    MISSING_ROW,
    NULL_GROUP,
    BagFeature,
    DenseFeature,
    FeatureSchema,
    IdFeature,
    SequenceGroup,
)
from interformer_rec.data.decode.arrays import Lists, Mask, flat, joined, lists, times
from interformer_rec.data.decode.bad_rows import BadRows
from interformer_rec.data.decode.columns import Columns
from interformer_rec.data.decode.dense import transform
from interformer_rec.data.decode.histories import Read, check_times, newest, rows_of_places
from interformer_rec.data.decode.id_values import NOT_UTF8, NULL_KIND, Strings, id_kind, integers, strings
from interformer_rec.data.decode.ids import RowMap, hash_strings, row_map
from interformer_rec.data.decode.jagged import Jagged, compact
from interformer_rec.data.decode.layout import Layout
from interformer_rec.data.fit import Fitted

CURE_UTF8 = "Write strings as UTF-8"
BLOCK = 512  # rows transposed at a time


class Decoder:
    """Turns tables with the schema's columns into Columns; made once, used by several threads."""

    def __init__(
        self,
        features: FeatureSchema,
        fitted: Fitted,
        *,
        labels: bool = True,
        skip_bad: bool = False,
        maps: Mapping[str, RowMap] | None = None,
    ) -> None:
        """`maps`: `row_maps` of the schema's tables, where somebody has them already."""
        self.features, self.layout = features, Layout(features)
        self._labels, self._skip, self._moments = labels, skip_bad, fitted.moments
        self._maps = row_maps(features, fitted) if maps is None else maps
        self._single_type = _widest(self._maps[single.table].type for single in self.layout.singles)

    def __call__(self, table: pa.Table, where: Callable[[int], str]) -> Columns:
        """Decode and check; `where(row)` names a row in messages. Raises InputError for a bad row, or marks it."""
        return self.columns(table, BadRows(table, where, self._skip))

    def columns(self, table: pa.Table, bad: BadRows) -> Columns:
        """Decode and check; bad rows are added to `bad`."""
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
                groups = _group_keys(table[features.group], features.group, bad)
        return Columns(dense, _transpose(singles), jagged, labels, weights, groups, bad.codes, bad.reasons)

    def _dense(self, table: pa.Table, feature: DenseFeature, bad: BadRows) -> np.ndarray:
        values, null = flat(table[feature.column])
        with np.errstate(over="ignore"):
            out = transform(values, null, feature, self._moments.get(feature.name)).astype(np.float32)
        wrong = ~np.isfinite(out)
        if wrong.any():
            empty = wrong & null if null is not None else np.zeros(len(out), bool)
            what = f"a null in dense feature {feature.name!r}, which has no `fill`"
            bad.add(feature.column, what, np.flatnonzero(empty), "Set `fill` on the feature")
            large = wrong & ~empty & np.isfinite(values)
            what = f"a number too large for float32 in dense feature {feature.name!r}"
            bad.add(feature.column, what, np.flatnonzero(large), "Correct the file, or set `clip` on the feature")
            what = f"not a finite number in dense feature {feature.name!r}"
            bad.add(feature.column, what, np.flatnonzero(wrong & ~empty & ~large), "Correct the file")
        return out

    def _ids(self, ids: pa.ChunkedArray, bounds: Lists | None, column: str, table: str, bad: BadRows) -> np.ndarray:
        """(len(ids),) table rows; `bounds` where `ids` are the elements of lists."""
        map_ = self._maps[table]
        kind = id_kind(ids.type)
        if kind == NULL_KIND:
            return np.full(len(ids), MISSING_ROW, map_.type)
        if kind == "string":
            read = strings(ids)
            invalid = joined([(part.wrong, len(part.indices)) for part in read])
            _report(ids, invalid, bounds, column, NOT_UTF8, CURE_UTF8, bad)
            return _rows_of_strings(read, map_)
        values, null, wrong, what = integers(ids)
        _report(ids, _besides(wrong, null), bounds, column, what, "Write the ids as integers or strings", bad)
        outside = map_.outside(values)
        if outside is not None:
            size = self.features.tables[table].num_embeddings
            what = f"an id outside 0 .. {size} - 1, the range of identity table {table!r}"
            cure = "Correct the file, raise num_embeddings or use ids: vocab or hash"
            _report(ids, _besides(outside, null), bounds, column, what, cure, bad)
        rows = map_.ints(values)
        if null is not None:
            rows[null] = MISSING_ROW
        return rows

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
        when, null = times(bounds.values)
        check_times(group.timestamp, bounds, when, null, bad)
        return Jagged(lengths, events, compact(when, starts[-1], lengths).astype(np.int64))


def row_maps(features: FeatureSchema, fitted: Fitted) -> dict[str, RowMap]:
    """The map of every table; one that `fitted` has made before, unless its vocabulary has changed since."""
    for name, table in features.tables.items():
        vocabulary, made = fitted.vocabularies.get(name), fitted.maps.get(name)
        if made is None or made[0] != table or made[1] is not vocabulary:
            fitted.maps[name] = (table, vocabulary, row_map(name, table, vocabulary))
    return {name: fitted.maps[name][2] for name in features.tables}


def _widest(types: Iterable[np.dtype]) -> np.dtype:
    return max(types, key=lambda type_: type_.itemsize, default=np.dtype(np.uint8))


def _transpose(values: np.ndarray) -> np.ndarray:
    """(n, m) -> (m, n), block by block so that both sides stay in the cache."""
    out = np.empty(values.shape[::-1], values.dtype)
    for start in range(0, len(out), BLOCK):
        out[start : start + BLOCK] = values[:, start : start + BLOCK].T
    return out


def _rows_of_strings(read: list[Strings], map_: RowMap) -> np.ndarray:
    """(n,) table rows; nulls read the missing row."""
    parts = []
    for distinct, indices, null, _ in read:
        known = map_.strings(distinct)
        rows = np.append(known, known.dtype.type(MISSING_ROW)).take(indices)
        if null is not None:
            rows[null] = MISSING_ROW
        parts.append(rows)
    if not parts:
        return map_.strings(pa.array([], pa.string()))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _besides(mask: Mask, null: Mask) -> Mask:
    return mask if mask is None or null is None else mask & ~null


def _report(
    ids: pa.ChunkedArray, wrong: Mask, bounds: Lists | None, column: str, what: str, cure: str, bad: BadRows
) -> None:
    """Mark the rows of wrong ids; `bounds` where `ids` are the elements of lists."""
    if wrong is None:
        return
    rows = places = np.flatnonzero(wrong)
    if bounds is not None:
        rows, inside = rows_of_places(bounds, places)
        places = places[inside]
    bad.add(column, what, np.unique(rows), cure, value=lambda row: ids[int(places[rows == row][0])])


def _bounded(table: pa.Table, column: str, bad: BadRows, kind: str, high: float | None) -> np.ndarray:
    """(rows,) float32 of a label (0 .. 1) or weight (0 and up)."""
    values, null = flat(table[column])
    with np.errstate(over="ignore"):  # infinite, and found below
        out = values.astype(np.float32)
    if null is not None:
        out[null] = np.nan
    good = (out >= 0) & (out <= high if high is not None else np.isfinite(out))
    if not good.all():
        cure = "Correct the file or filter such rows out when writing it"
        allowed = "a finite number of at least 0" if high is None else "between 0 and 1"
        bad.add(column, f"a {kind} that is not {allowed}", np.flatnonzero(~good), cure)
    return out


def _group_keys(column: pa.ChunkedArray, name: str, bad: BadRows) -> np.ndarray:
    """(rows,) int64: integers as they are, strings hashed; all nulls share NULL_GROUP."""
    if id_kind(column.type) == "string":
        read = strings(column)
        _report(column, joined([(p.wrong, len(p.indices)) for p in read]), None, name, NOT_UTF8, CURE_UTF8, bad)
        keys = [np.append(hash_strings(p.distinct).view(np.int64), NULL_GROUP).take(p.indices) for p in read]
        parts = [(key, part.null) for key, part in zip(keys, read, strict=True)]
    else:
        values, null, wrong, what = integers(column)
        _report(column, _besides(wrong, null), None, name, what, "Write the groups as integers or strings", bad)
        parts = [(values.astype(np.int64), null)]
    for keys_, null in parts:
        if null is not None:
            keys_[null] = NULL_GROUP
    return np.concatenate([keys_ for keys_, _ in parts])
