"""Events, rows without histories, and the same rows with them as a loop in Python finds them: for the tests of stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from interformer_rec.config.features import FeatureSchema

MOST = 7  # newest events of a history
STORED = {"seen": ("seen_item", "seen_shop"), "bought": ("bought_item",)}  # history -> columns of its store
GROUPS = (19, 1, 40, 7)  # rows of the row groups of a file


def features() -> FeatureSchema:
    """Two histories that stores hold, one with strings and times, and one that lies in the rows."""
    return FeatureSchema.model_validate(
        {
            "tables": {
                "item": {"ids": "vocab", "min_count": 2},
                "shop": {"ids": "vocab"},
                "tag": {"ids": "hash", "num_embeddings": 50},
            },
            "dense": ["price"],
            "ids": [{"name": "item"}],
            "sequences": [
                {
                    "name": "seen",
                    "max_length": MOST,
                    "timestamp": "seen_at",
                    "columns": [{"name": "item", "column": "seen_item"}, {"name": "shop", "column": "seen_shop"}],
                },
                {"name": "bought", "max_length": MOST, "columns": [{"name": "item", "column": "bought_item"}]},
                {"name": "tags", "max_length": 3, "columns": [{"name": "tag"}]},
            ],
            "labels": ["label"],
            "group": "user",
            "candidate": ["item"],
        }
    )


def events(draw: np.random.Generator, count: int, users: int, clock: int) -> dict[str, pa.Table]:
    """Of both histories, in no order; few moments, so that many events are at the same time."""
    found = {}
    for name, columns in STORED.items():
        table = {
            "user": draw.integers(0, users, count) * 7 - 3,
            "at": draw.integers(0, clock, count),
            columns[0]: pa.array(draw.integers(0, 30, count), mask=draw.random(count) < 0.1),
        }
        if len(columns) > 1:
            table[columns[1]] = pa.array(
                [f"shop {n}" for n in draw.integers(0, 9, count)], mask=draw.random(count) < 0.1
            )
        found[name] = pa.table(table)
    return found


def rows(draw: np.random.Generator, count: int, users: int, clock: int) -> pa.Table:
    """Some of users and moments that no event has, some without a user or a time."""
    tags = [draw.integers(0, 99, n).tolist() for n in draw.integers(0, 6, count)]
    return pa.table(
        {
            "user": pa.array(draw.integers(0, users + 2, count) * 7 - 3, mask=draw.random(count) < 0.05),
            "at": pa.array(draw.integers(-2, clock + 3, count), mask=draw.random(count) < 0.05),
            "price": draw.random(count),
            "item": draw.integers(0, 30, count),
            "tag": pa.array(tags, pa.list_(pa.int64())),
            "label": draw.integers(0, 2, count),
        }
    )


def with_histories(table: pa.Table, stores: dict[str, pa.Table], most: int | None = None) -> pa.Table:
    """The rows with lists of all events before their times, or the newest `most`."""
    for name, columns in STORED.items():
        lists: dict[str, list[Any]] = {column: [] for column in (*columns, "at")}
        found = sorted(stores[name].to_pylist(), key=lambda event: event["at"])  # keeps the order of events at one time
        for row in table.select(["user", "at"]).to_pylist():
            known = row["user"] is not None and row["at"] is not None
            mine = [event for event in found if known and event["user"] == row["user"] and event["at"] < row["at"]]
            for column, values in lists.items():
                values.append([event[column] for event in mine[-most if most else 0 :]])
        for column in columns:
            table = table.append_column(
                column, pa.array(lists[column], pa.list_(stores[name].schema.field(column).type))
            )
        if name == "seen":
            table = table.append_column("seen_at", pa.array(lists["at"], pa.list_(pa.int64())))
    return table


def write_store(path: Path, table: pa.Table, group: int = 50) -> str:
    """As `interformer data events` would: by user and time, events at one time in the order in which they come."""
    path.mkdir(parents=True, exist_ok=True)
    number = table.append_column("number", pa.array(np.arange(len(table))))
    table = number.sort_by([("user", "ascending"), ("at", "ascending"), ("number", "ascending")]).drop_columns("number")
    half = len(table) // 2
    pq.write_table(table.slice(0, half), path / "events-0.parquet", row_group_size=group)
    pq.write_table(table.slice(half), path / "events-1.parquet", row_group_size=group)
    return str(path)


def write_rows(path: Path, table: pa.Table) -> str:
    """Files of row groups of GROUPS rows."""
    path.mkdir(parents=True, exist_ok=True)
    for file, start in enumerate(range(0, len(table), sum(GROUPS))):
        with pq.ParquetWriter(path / f"rows-{file}.parquet", table.schema) as writer:
            at = start
            for size in GROUPS:
                if at < len(table):
                    writer.write_table(table.slice(at, size))
                at += size
    return str(path)
