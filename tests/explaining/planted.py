"""Rows whose label is known to depend on what: `a` decides, `b` helps, `c` is noise; of a history, the events of age 5 to 16 count.

`a` and `c` read one table; the events of all ages are of the same ids. The label `second` depends on `b` alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

USERS, LONGEST = 400, 24
FIRST, LAST = 5, 16  # ages that count


def write(path: Path, rows: int, seed: int, new: float = 0.0) -> None:
    """`new`: share of rows whose `c` is 2, an id like no other; 0 and 1 stand for -1 and +1 in `a`, `b` and the kinds of events."""
    random = np.random.default_rng(seed)
    a, b, c = (random.integers(0, 2, rows) for _ in range(3))
    c = np.where(random.random(rows) < new, 2, c)
    lengths = random.integers(8, LONGEST + 1, rows)
    kinds = random.integers(0, 2, lengths.sum())
    offsets = np.r_[0, np.cumsum(lengths)]
    owner = np.repeat(np.arange(rows), lengths)
    age = offsets[1:][owner] - np.arange(len(kinds))
    counted = (age >= FIRST) & (age <= LAST)
    history = np.bincount(owner[counted], 2 * kinds[counted] - 1, rows)
    logit = 2.5 * (2 * a - 1) + 0.9 * (2 * b - 1) + 0.5 * history

    def lists(values: np.ndarray) -> pa.ListArray:
        return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(values))

    columns: dict[str, Any] = {
        "user": [f"u{number}" for number in random.integers(0, USERS, rows)],
        "a": a,
        "b": b,
        "c": c,
        "n": random.normal(size=rows).astype(np.float32),
        "kinds": lists(kinds),
        "places": lists(random.integers(0, 3, len(kinds))),
        "click": (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int8),
        "second": (random.random(rows) < 1 / (1 + np.exp(-2.0 * (2 * b - 1)))).astype(np.int8),
        "weight": random.uniform(0.5, 1.5, rows).astype(np.float32),
        "segment": np.where(c == 2, "new", "old"),
    }
    pq.write_table(pa.table(columns), path, row_group_size=700)


def config(folder: Path) -> dict[str, Any]:
    """Of a small model, as a tree; its run is `folder`/run."""
    return {
        "name": "planted",
        "data": {"train": f"{folder}/train.parquet", "test": f"{folder}/test.parquet", "batch_size": 250},
        "features": {
            "tables": {
                "code": {"ids": "vocab"},
                "b": {"ids": "vocab"},
                "kind": {"ids": "vocab"},
                "place": {"ids": "vocab"},
            },
            "dense": [{"name": "n"}],
            "ids": [{"name": "a", "table": "code"}, {"name": "c", "table": "code"}, {"name": "b"}],
            "sequences": [
                {
                    "name": "seen",
                    "max_length": LONGEST,
                    "columns": [
                        {"name": "kind", "column": "kinds", "table": "kind"},
                        {"name": "place", "column": "places", "table": "place"},
                    ],
                }
            ],
            "candidate": ["b", "c"],
            "labels": [{"name": "click"}, {"name": "second"}],
            "weight": "weight",
            "group": "user",
        },
        "model": {"embedding_dim": 8, "d": 8, "layers": 1, "heads": 2, "head": [16]},
        "optimizer": {"dense": {"lr": 0.01}, "embedding": {"lr": 0.1}},
        "training": {"epochs": 3, "device": "cpu", "out": f"{folder}/run"},
    }
