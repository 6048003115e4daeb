"""How often ids repeat in a batch. In: rows of the training files, or a statistics file; out: Repeats of every table.

What travels between ranks, and what the update of a table writes, are distinct ids, not ids: a batch names few videos many times. And
the most frequent ids lie side by side (a vocabulary is ordered by frequency), so that the first rank of a table divided by rows has
most of the work. Both grow with the logarithm of the batch more than with the batch, so both are measured, at several sizes.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.request import counted_column
from interformer_rec.config.strict import LARGEST
from interformer_rec.data.decode.arrays import is_list, lists
from interformer_rec.data.decode.requests import as_in_batches
from interformer_rec.data.files.source import Source
from interformer_rec.data.files.struct_lists import with_candidate_lists

BATCHES = (16, 64, 256, 1_024, 4_096, 16_384, 32_768)  # rows of the batches whose distinct ids are counted
HEADS = (1, 10, 100, 1_000, 10_000, 100_000)  # of the most frequent ids, how many
Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Repeats:
    """Of one table. Without points every row is taken to be as frequent as any other: no plan sends more than it then says."""

    distinct: Points = ()  # (ids in a batch, distinct ones among them), ascending
    head: Points = ()  # (rows, share of all ids that the so many most frequent ones are), ascending

    def of(self, ids: float, rows: int) -> float:
        """Distinct ids among so many drawn from a table of so many rows."""
        if ids <= 0 or rows <= 0:
            return 0.0
        evenly = -rows * math.expm1(-ids / rows) if ids > 1 else ids
        if not self.distinct:
            return min(ids, evenly)
        known = [(1.0, 1.0), *(point for point in self.distinct if point[0] > 1)]
        x, y = np.log([n for n, _ in known]), np.log([max(1.0, d) for _, d in known])
        at = math.log(max(1.0, ids))
        if at <= x[-1] or len(known) < 2:
            found = math.exp(float(np.interp(at, x, y)))
        else:  # further as it went on last
            slope = (y[-1] - y[-2]) / (x[-1] - x[-2])
            found = math.exp(float(y[-1] + max(0.0, slope) * (at - x[-1])))
        return min(ids, found, evenly if ids > 1 else ids)

    def head_share(self, most_frequent: float, rows: int) -> float:
        """Share of the ids that are among the so many most frequent ones."""
        if most_frequent >= rows:
            return 1.0
        evenly = max(0.0, most_frequent) / rows
        if not self.head or most_frequent <= 0:
            return evenly
        known = [*(point for point in self.head if point[0] < rows), (float(rows), 1.0)]
        if most_frequent < known[0][0]:
            return max(evenly, known[0][1] * most_frequent / known[0][0])
        return max(
            evenly, float(np.interp(math.log(most_frequent), np.log([n for n, _ in known]), [s for _, s in known]))
        )

    def to_dict(self) -> dict[str, Any]:
        """As a statistics file has them, beside the table's rows."""
        return {name: [list(point) for point in points] for name, points in vars(self).items() if points}


def of_entry(entry: Mapping[str, Any]) -> Repeats | None:
    """Of a table in a statistics file; None: it says nothing. Raises ValueError, TypeError."""
    if "distinct" not in entry and "head" not in entry:
        return None
    found = {}
    for name, most in (("distinct", LARGEST), ("head", 1.0)):
        points = [(float(n), float(value)) for n, value in entry.get(name, [])]
        if any(not 0 < n <= LARGEST or not 0 <= value <= most for n, value in points):
            raise ValueError(f"{name}: pairs of numbers above 0, the second up to {most:g}")
        if any(b[0] <= a[0] or b[1] < a[1] for a, b in itertools.pairwise(points)):
            raise ValueError(f"{name}: both numbers of the pairs must rise")
        found[name] = tuple(points)
    return Repeats(**found)


def measure(features: FeatureSchema, source: Source, most: int) -> dict[str, Repeats]:
    """Of every table that a column of the first `most` rows' row groups feeds. Histories are cut as the loader cuts them.

    Batches are drawn from all these rows, as a shuffle draws them. Ids of hashed tables are counted before they are hashed.
    """
    columns = _columns(features)
    table = first_rows(features, source, [column for parts in columns.values() for column, _ in parts], most)
    order = np.random.default_rng(0).permutation(len(table))
    return {name: _measured([_ids(table[c], cut) for c, cut in parts], order) for name, parts in columns.items()}


def first_rows(features: FeatureSchema, source: Source, columns: Iterable[str], most: int) -> pa.Table:
    """The row groups of the first `most` rows: a row for each row of a batch. Raises InputError where a column is missing."""
    source, names = with_candidate_lists(source, features), dict.fromkeys(columns)
    if features.request is not None:
        names[counted_column(features)] = None
    source.require(tuple(names))
    enough = int(np.searchsorted(np.cumsum(source.group_rows), most)) + 1
    table = source.read(list(range(min(enough, len(source.group_rows)))), tuple(names))
    return table if features.request is None else as_in_batches(table, features)


def _columns(features: FeatureSchema) -> dict[str, list[tuple[str, int | None]]]:
    """Table -> (column, events that are kept) of everything that reads it."""
    found: dict[str, list[tuple[str, int | None]]] = {}
    for feature in (*features.ids, *features.bags):
        found.setdefault(feature.table, []).append((feature.column, None))
    for group in features.sequences:
        for column in group.columns:
            found.setdefault(column.table, []).append((column.column, group.max_length))
    return found


def _ids(column: pa.ChunkedArray, newest: int | None) -> tuple[pa.ChunkedArray, np.ndarray]:
    """Ids and the row that each stands in."""
    if not is_list(column.type):
        return column, np.arange(len(column))
    found = lists(column)
    lengths = found.lengths if newest is None else np.minimum(found.lengths, newest)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    ends = found.starts + found.lengths
    places = (
        np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + np.repeat(ends - lengths, lengths)
    )
    return found.values.take(pa.array(places)), rows


def _measured(parts: list[tuple[pa.ChunkedArray, np.ndarray]], order: np.ndarray) -> Repeats:
    """Of the ids of all columns that read a table; `order`: of the rows, the first make the batches."""
    texts = any(pa.types.is_string(ids.type) or pa.types.is_large_string(ids.type) for ids, _ in parts)
    kind = pa.large_string() if texts else pa.int64()
    chunks = [chunk.cast(kind, safe=False) for ids, _ in parts for chunk in ids.chunks]
    joined = pa.chunked_array(chunks, kind).combine_chunks()
    codes = joined.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    turn = place[np.concatenate([rows for _, rows in parts])][codes >= 0]
    codes = codes[codes >= 0]
    if not len(codes):
        return Repeats()
    times = np.sort(np.bincount(codes))[::-1]
    first = np.full(len(times), len(order))
    np.minimum.at(first, codes, turn)
    drawn, seen = np.sort(turn), np.sort(first)
    distinct = [(float(np.searchsorted(drawn, b)), float(np.searchsorted(seen, b))) for b in _batches(len(order))]
    shares = np.cumsum(times) / times.sum()
    head = [(float(k), round(float(shares[k - 1]), 6)) for k in HEADS if k < len(times)]
    return Repeats(tuple(_rising(distinct)), tuple(head))


def _batches(rows: int) -> Iterator[int]:
    yield from (b for b in BATCHES if b < rows)
    yield rows


def _rising(points: list[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    last = (0.0, 0.0)
    for point in points:
        if point[0] > last[0] and point[1] > 0:
            yield point
            last = point
