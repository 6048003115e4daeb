"""Small Parquet files with every kind of feature, and whether two batches are the same, for the tests of the data path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from interformer_rec.batch import Batch
from interformer_rec.config.data import DataConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.files.source import Source
from interformer_rec.data.fit import Fitted
from interformer_rec.data.loader import Loader


def loader_of(
    path: str | Source, features: FeatureSchema, fitted: Fitted, *, seed: int = 0, rank: int = 0, world_size: int = 1,
    labels: bool = True, **data: object,
) -> Loader:  # fmt: skip
    """A Loader of rows in file order with all their ids, unless `data`, keys of the config's section, says otherwise."""
    options = DataConfig.model_validate({"shuffle_rows": 0, "balance": "none", "id_dropout": 0.0, **data})
    return Loader(path, features, fitted, options, seed, (rank, world_size), labels)


def every_kind() -> FeatureSchema:
    """Dense with each step, ids of each sort of table, bags, two groups (one with times), two labels, weight, group."""
    return FeatureSchema.model_validate(
        {
            "tables": {
                "item": {"ids": "vocab"},
                "city": {"ids": "vocab", "min_count": 2},
                "hour": {"ids": "identity", "num_embeddings": 24},
                "user": {"ids": "hash", "num_embeddings": 1000},
                "tag": {"ids": "vocab", "num_embeddings": 2},
            },
            "dense": [
                {"name": "age", "fill": -1.0, "clip": [0, 60]},
                {"name": "price", "log1p": True},
                {"name": "height", "standardise": True},
            ],
            "ids": [
                {"name": "city"},
                {"name": "hour", "null": "empty"},
                {"name": "user"},
                {"name": "candidate", "table": "item"},
            ],
            "bags": [{"name": "tags", "table": "tag"}, {"name": "topics", "table": "tag", "null": "row"}],
            "sequences": [
                {
                    "name": "watch",
                    "max_length": 2,
                    "timestamp": "watch_time",
                    "columns": [{"name": "item", "column": "watch_item"}, {"name": "hour", "column": "watch_hour"}],
                },
                {"name": "buy", "max_length": 5, "columns": [{"name": "item", "column": "buy_item"}]},
            ],
            "labels": ["click", {"name": "rating", "weight": 0.5}],
            "weight": "weight",
            "group": "user",
        }
    )


def with_max_length(events: int) -> FeatureSchema:
    """every_kind with another max_length of its histories."""
    plain = every_kind()
    groups = [group.model_copy(update={"max_length": events}) for group in plain.sequences]
    return plain.model_copy(update={"sequences": tuple(groups)})


def every_kind_rows() -> pa.Table:
    """Four rows with nulls, empty lists and a history longer than its max_length."""
    return pa.table(
        {
            "age": pa.array([20, None, 99, 30], pa.int32()),
            "price": pa.array([0.0, np.e - 1, 1.0 - np.e, 0.0], pa.float64()),
            "height": pa.array([1.0, 3.0, 1.0, 3.0], pa.float32()),
            "city": pa.array(["b", "a", None, "b"]),
            "hour": pa.array([3, None, 23, 0], pa.int8()),
            "user": pa.array(["u1", "u2", "u1", None]),
            "candidate": pa.array([10, 20, 30, None], pa.int64()),
            "tags": pa.array([[7], [], None, [7, 8, 9, 7, 8]], pa.list_(pa.int16())),
            "topics": pa.array([[8], [None], None, []], pa.list_(pa.int16())),
            "watch_item": pa.array([[10, 20, 30], None, [20], [None, 10]], pa.list_(pa.int64())),
            "watch_hour": pa.array([[1, 2, 3], [], [4], [5, 6]], pa.list_(pa.int32())),
            "watch_time": pa.array([[5, 5, 9], [], [1], [2, 3]], pa.list_(pa.int64())),
            "buy_item": pa.array([[], [10, 10], None, [20]], pa.large_list(pa.int64())),
            "click": pa.array([True, False, True, False]),
            "rating": pa.array([0.5, 1.0, 0.0, 0.25], pa.float64()),
            "weight": pa.array([1.0, 2.0, 0.0, 0.5], pa.float32()),
        }
    )


def with_column(table: pa.Table, name: str, values: object, type_: pa.DataType | None = None) -> pa.Table:
    """The table with one column's values (and type) replaced."""
    array = pa.array(values, type_ or table.schema.field(name).type)
    return table.set_column(table.schema.get_field_index(name), name, array)


def numbered() -> FeatureSchema:
    """One identity id `row` that tells each row, a history of row % 5 events, and a dense copy."""
    return FeatureSchema.model_validate(
        {
            "tables": {
                "row": {"ids": "identity", "num_embeddings": 100_000},
                "event": {"ids": "identity", "num_embeddings": 100_000},
            },
            "dense": ["number"],
            "ids": ["row"],
            "sequences": [{"name": "past", "max_length": 3, "columns": [{"name": "event", "column": "past"}]}],
            "labels": ["label"],
        }
    )


def numbered_table(start: int, stop: int) -> pa.Table:
    """Rows start .. stop-1; row r has the history [r, r+1, ...] of r % 5 events."""
    rows = np.arange(start, stop)
    return pa.table(
        {
            "row": rows,
            "number": rows.astype(np.float32),
            "past": pa.array([list(range(r, r + r % 5)) for r in rows.tolist()], pa.list_(pa.int32())),
            "label": (rows % 2).astype(np.int8),
            "note": [f"note {r}" for r in rows.tolist()],
        }
    )


def write_numbered(folder: Path, sizes: list[list[int]]) -> str:
    """One file per list of row-group sizes; returns the folder."""
    folder.mkdir(exist_ok=True)
    start = 0
    for number, groups in enumerate(sizes):
        table = numbered_table(start, start + sum(groups))
        with pq.ParquetWriter(folder / f"part-{number:03}.parquet", table.schema) as writer:
            at = 0
            for size in groups:
                writer.write_table(table.slice(at, size), row_group_size=max(size, 1))
                at += size
        start += sum(groups)
    return str(folder)


def equal(a: Batch, b: Batch) -> bool:
    """The same batches, bit for bit."""
    pairs = [(a.dense, b.dense), (a.labels, b.labels), (a.weights, b.weights), (a.groups, b.groups)]
    for one, other in ((a.sparse, b.sparse), (a.sequences, b.sequences)):
        pairs += [(one.values(), other.values()), (one.lengths(), other.lengths())]
    return all(torch.equal(*pair) for pair in pairs) and (a.rows, a.loss_rows) == (b.rows, b.loss_rows)
