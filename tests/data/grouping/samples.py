"""Impressions with columns of every type, and the plain way to group them: a loop over rows."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CANDIDATES = ("item", "price", "tags", "shown_at", "label")
ZONE = datetime.timezone.utc


def table(random: np.random.Generator, rows: int, requests: int, null_keys: bool = True) -> pa.Table:
    """Rows in no order; a request's own columns depend on its number alone. `number` tells each row."""
    of = random.integers(0, requests, rows)

    def once(values: list, type_: pa.DataType) -> pa.Array:
        return pa.array([values[one % len(values)] for one in of.tolist()], type_)

    def each(values: list, type_: pa.DataType) -> pa.Array:
        return pa.array([values[one] for one in random.integers(0, len(values), rows).tolist()], type_)

    moment = datetime.datetime(2024, 2, 3, 4, 5, 6, 789, ZONE)
    missing = random.random(rows) < (0.1 if null_keys else 0)
    return pa.table(
        {
            "number": pa.array(np.arange(rows)),
            "request": pa.array([f"r{one}" for one in of.tolist()], pa.large_string(), mask=missing),
            "part": once([0, 1], pa.int16()),
            "city": once(["a", None, "c\0\"'"], pa.string()).dictionary_encode(),
            "half": once([0.5, None, float("nan"), -0.0], pa.float16()),
            "history": once([[1, 2], [], None, [3, None]], pa.large_list(pa.int64())),
            "times": once([[moment], [None, moment], None], pa.list_(pa.timestamp("ns", "Europe/Paris"))),
            "pair": once([[1, 2], [3, 4]], pa.list_(pa.int32(), 2)),
            "amount": once([decimal.Decimal("1.50"), None], pa.decimal128(30, 2)),
            "day": once([datetime.date(2024, 1, 2), None], pa.date32()),
            "clock": once([datetime.time(1, 2, 3, 4), None], pa.time64("us")),
            "nothing": pa.nulls(rows),
            "nothings": once([[], [None]], pa.list_(pa.null())),
            "struct": once([{"a": 1, "b": ["x"]}, None], pa.struct([("a", pa.int8()), ("b", pa.list_(pa.string()))])),
            "item": each([1, 2, None, 2**64 - 1], pa.uint64()),
            "price": each([0.1, None, float("inf")], pa.float32()),
            "tags": each([["x", None], [], None], pa.list_(pa.string())),
            "shown_at": each([moment, None], pa.timestamp("ms")),
            "label": each([True, False], pa.bool_()),
        }
    )


def write(folder: Path, rows: pa.Table, names: list[str], row_group: int = 7) -> None:
    """The rows, in order, in files of unequal lengths."""
    bounds = np.linspace(0, rows.num_rows, len(names) + 1).astype(int)
    for name, start, stop in zip(names, bounds[:-1], bounds[1:], strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows.slice(start, stop - start), path, row_group_size=row_group)


def read(folder: Path, name: str) -> list[dict[str, Any]]:
    """Rows of one file, its folder's keys not added."""
    return pq.ParquetFile(folder / name).read().to_pylist()


def plainly_grouped(
    folder: Path, names: list[str], keys: tuple[str, ...], candidates: tuple[str, ...]
) -> dict[str, list[dict[str, Any]]]:
    """File -> its request rows, by a loop: files in order, folders apart, a row with a null key alone."""
    requests: dict[Any, tuple[str, dict[str, Any]]] = {}
    for name in names:
        for row in read(folder, name):
            key = tuple(row[one] for one in keys)
            known: Any = (str(Path(name).parent), key) if None not in key else (name, row["number"])
            if known not in requests:
                once = {column: [] if column in candidates else value for column, value in row.items()}
                requests[known] = (name, once)
            for column in candidates:
                requests[known][1][column].append(row[column])
    out: dict[str, list[dict[str, Any]]] = {}
    for name, row in requests.values():
        out.setdefault(name, []).append(row)
    return out


def same(a: Any, b: Any) -> bool:
    """NaN equals NaN, at any depth."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)
