"""Rows made up from a schema. In: the schema, sizes of its tables, lengths; out: a table, and what a fit over such rows would be.

Ids are drawn as logged ones are: few are frequent (the logarithm of an id is even). Lengths of histories are those of lengths.py.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from interformer_rec.benchmarking.rows.lengths import draw
from interformer_rec.benchmarking.rows.own import list_array
from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.decode.dense import Moments
from interformer_rec.data.fit import Fitted

BAG = 3  # mean ids of a bag
OFTEN = 1000  # times that an id was seen: id dropout leaves nearly all as they are
POSITIVE = 0.3  # share of labels


def rows_of(
    features: FeatureSchema, table_rows: Mapping[str, int], rows: int, longest: int, distribution: str, fill: float
) -> pa.Table:
    """So many rows, each of one candidate; the same arguments give the same rows."""
    random = np.random.default_rng(longest)
    columns: dict[str, pa.Array] = {}

    def ids(table: str, count: int) -> np.ndarray:
        known = max(1, table_rows[table] - features.tables[table].special_rows)
        return np.minimum(known ** random.random(count), known).astype(np.int64) - 1

    for one in features.ids:
        columns.setdefault(one.column, pa.array(ids(one.table, rows)))
    for bag in features.bags:
        lengths = random.poisson(BAG, rows)
        columns.setdefault(bag.column, list_array(lengths, pa.array(ids(bag.table, int(lengths.sum())))))
    for number in features.dense:
        columns.setdefault(number.column, pa.array(np.abs(random.standard_normal(rows))))
    for group in features.sequences:
        lengths = draw(distribution, rows, longest, fill, random)
        total = int(lengths.sum())
        for column in group.columns:
            columns.setdefault(column.column, list_array(lengths, pa.array(ids(column.table, total))))
        if group.timestamp is not None:
            columns.setdefault(group.timestamp, list_array(lengths, pa.array(np.arange(total) * 1_000_000)))
    for label in features.labels:
        columns.setdefault(label.column, pa.array((random.random(rows) < POSITIVE).astype(np.int8)))
    if features.weight is not None:
        columns.setdefault(features.weight, pa.array(np.ones(rows)))
    if features.group is not None:
        columns.setdefault(features.group, pa.array(random.integers(0, 1 + rows // 4, rows)))
    return pa.table(columns)


def fitted_of(features: FeatureSchema, table_rows: Mapping[str, int]) -> Fitted:
    """As if these rows had been fitted: vocabularies are 0, 1, 2, ..., numbers have mean 0 and deviation 1."""
    known = {
        name: table_rows[name] - table.special_rows for name, table in features.tables.items() if table.ids == "vocab"
    }
    return Fitted(
        table_rows=dict(table_rows),
        vocabularies={name: pa.array(np.arange(count)) for name, count in known.items()},
        counts={name: np.full(count, OFTEN) for name, count in known.items()},
        moments={number.name: Moments(0.0, 1.0) for number in features.dense if number.standardise},
    )
