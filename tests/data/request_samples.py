"""Requests with every kind of feature, and the same rows as impressions: what one form gives, the other has to give."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from interformer_rec.config.features import FeatureSchema
from tests.data.samples import every_kind

CANDIDATES = ("price", "candidate", "city", "tags", "topics")


def of_impressions() -> FeatureSchema:
    """every_kind, its candidate's features named."""
    return FeatureSchema.model_validate({**every_kind().model_dump(), "candidate": CANDIDATES})


def of_requests() -> FeatureSchema:
    """The same of rows that are requests."""
    return FeatureSchema.model_validate({**of_impressions().model_dump(), "request": {"candidates": CANDIDATES}})


def requests(random: np.random.Generator, rows: int, most: int = 4, counts: np.ndarray | None = None) -> pa.Table:
    """Requests of 0 to `most` candidates, or of so many each (`counts`); nulls wherever the schema allows them."""
    counts = random.integers(0, most + 1, rows) if counts is None else counts

    def some(values: list, size: int, null: bool = True) -> list:
        drawn = [values[place] for place in random.integers(0, len(values), size)]
        return [None if null and random.random() < 0.1 else value for value in drawn]

    def lists(values: list, longest: int, size: int) -> list:
        return [None if random.random() < 0.1 else some(values, random.integers(0, longest + 1)) for _ in range(size)]

    def each(make) -> list:
        return [make(count) for count in counts.tolist()]

    watched = [int(n) for n in random.integers(0, 5, rows)]
    return pa.table(
        {
            "age": pa.array(some([20, 99, 30], rows), pa.int32()),
            "height": pa.array([random.normal() for _ in range(rows)], pa.float32()),
            "hour": pa.array(some(list(range(24)), rows), pa.int8()),
            "user": pa.array(some(["u1", "u2", "u3"], rows)),
            "watch_item": pa.array([some([10, 20, 30, 40], n) for n in watched], pa.list_(pa.int64())),
            "watch_hour": pa.array([some(list(range(24)), n) for n in watched], pa.list_(pa.int32())),
            "watch_time": pa.array([sorted(random.integers(0, 9, n).tolist()) for n in watched], pa.list_(pa.int64())),
            "buy_item": pa.array(lists([10, 20, 50], 6, rows), pa.large_list(pa.int64())),
            "price": pa.array(each(lambda n: random.normal(size=n).tolist()), pa.list_(pa.float64())),
            "candidate": pa.array(each(lambda n: some([10, 20, 30, 60], n)), pa.list_(pa.int64())),
            "city": pa.array(each(lambda n: some(["a", "b", "c"], n)), pa.list_(pa.string())),
            "tags": pa.array(each(lambda n: lists([7, 8, 9], 3, n)), pa.list_(pa.list_(pa.int16()))),
            "topics": pa.array(each(lambda n: lists([7, 8, 9], 3, n)), pa.list_(pa.list_(pa.int16()))),
            "click": pa.array(each(lambda n: some([True, False], n, null=False)), pa.list_(pa.bool_())),
            "rating": pa.array(each(lambda n: random.random(n).tolist()), pa.list_(pa.float64())),
            "weight": pa.array(each(lambda n: random.random(n).tolist()), pa.list_(pa.float32())),
        }
    )


def impressions(table: pa.Table, features: FeatureSchema) -> pa.Table:
    """A row a candidate, in order, with its request's columns."""
    shown = features.candidate_columns
    counts = [len(value) for value in table["click"].to_pylist()]
    request_of = pa.array(np.repeat(np.arange(table.num_rows), counts))
    columns = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        columns[name] = column.flatten() if name in shown else column.take(request_of)
    return pa.table(columns)


def structs(table: pa.Table, columns: tuple[str, ...], name: str = "shown") -> pa.Table:
    """These list columns as one list of structs, in the last place."""
    listed = [table[column].combine_chunks() for column in columns]
    values = pa.StructArray.from_arrays([one.flatten() for one in listed], list(columns))
    packed = pa.ListArray.from_arrays(listed[0].offsets, values, mask=listed[0].is_null())
    return table.drop_columns(list(columns)).append_column(name, packed)
