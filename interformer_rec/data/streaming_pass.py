"""One streaming pass over the columns that something has to be learned from. In: row groups; out: of each, how often ids occur in it, and
how numbers spread.

Memory: one row group a worker, and what the caller adds the pieces up to.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from interformer_rec.config.features import DenseFeature, FeatureSchema
from interformer_rec.config.request import counted_column
from interformer_rec.data.counts import Counted, count_ids
from interformer_rec.data.decode.arrays import elements, flat, lists
from interformer_rec.data.decode.dense import transform
from interformer_rec.data.files.source import Source

Spread = tuple[int, float, float]  # n, mean, sum of squared deviations


class Piece(NamedTuple):
    """What one row group adds: counts per vocab table, spread per standardised feature."""

    counts: list[tuple[str, Counted]]
    spreads: dict[str, Spread]


def id_columns(features: FeatureSchema) -> list[tuple[str, str]]:
    """(column, vocab table) for every column that feeds one; a column that feeds a table twice counts once."""
    pairs = [(feature.column, feature.table) for feature in (*features.ids, *features.bags)]
    pairs += [(column.column, column.table) for group in features.sequences for column in group.columns]
    return [pair for pair in dict.fromkeys(pairs) if features.tables[pair[1]].ids == "vocab"]


def pieces(
    source: Source,
    features: FeatureSchema,
    columns: list[tuple[str, str]],
    scaled: list[DenseFeature],
    workers: int,
    groups: Sequence[int] | None = None,
) -> Iterator[Piece]:
    """One piece a row group (of `groups`, default all), in order, computed by `workers` threads (Arrow and numpy release the
    interpreter's lock)."""
    shown = features.candidate_columns
    wanted = dict.fromkeys([*(column for column, _ in columns), *(feature.column for feature in scaled)])
    if features.request is not None:
        wanted[counted_column(features)] = None

    def piece(group: int) -> Piece:
        table = source.read([group], tuple(wanted), strings=True)
        times = None if features.request is None else lists(table[counted_column(features)]).lengths

        def read(column: str) -> tuple[pa.ChunkedArray, np.ndarray | None]:
            """Its values, and how often each counts: a request's, for each of its candidates."""
            if column not in shown:
                return table[column], times
            found = lists(table[column])
            return elements(found, found.lengths), None

        counts = [(name, counted) for column, name in columns for counted in count_ids(*read(column))]
        return Piece(counts, {feature.name: _spread(feature, *read(feature.column)) for feature in scaled})

    waiting: deque[Future[Piece]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for group in groups if groups is not None else range(len(source.group_rows)):
            waiting.append(pool.submit(piece, group))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _spread(feature: DenseFeature, column: pa.ChunkedArray, times: np.ndarray | None) -> Spread:
    """Of the values of a row group that float32 holds, after fill, clip and log1p: their squares cannot overflow."""
    values = transform(*flat(column), feature)
    finite = np.isfinite(values)
    values = values[finite] if times is None else np.repeat(values[finite], times[finite])
    if not len(values):
        return 0, 0.0, 0.0
    mean = float(values.mean())
    return len(values), mean, float(np.square(values - mean).sum())


def merge(a: Spread, b: Spread) -> Spread:
    """Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances, 1979."""
    n = a[0] + b[0]
    if not n:
        return a
    gap = b[1] - a[1]
    return n, a[1] + gap * b[0] / n, a[2] + b[2] + gap * gap * a[0] * b[0] / n
