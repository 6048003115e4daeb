"""An encoder of a small model with every kind of input, and a request for it."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.fit import Fitted, fit
from interformer_rec.serving.encode.encoder import Encoder
from interformer_rec.serving.request import Inputs
from interformer_rec.serving.signature import signature_of

FEATURES: dict[str, Any] = {
    "tables": {
        "item": {},
        "hour": {"ids": "identity", "num_embeddings": 24},
        "city": {"ids": "hash", "num_embeddings": 1000},
        "big": {"ids": "hash", "num_embeddings": 1000},
        "flag": {},
        "day": {},
        "seen": {},
        "none": {},
    },
    "dense": [{"name": "age", "fill": 30.0}, {"name": "price", "log1p": True}, {"name": "new"}],
    "ids": [
        "hour",
        "city",
        "big",
        "flag",
        "day",
        "seen",
        "none",
        {"name": "item_id", "table": "item", "null": "empty"},
    ],
    "bags": [{"name": "likes", "table": "item"}, {"name": "also", "table": "item", "null": "row"}],
    "sequences": [
        {
            "name": "watch",
            "max_length": 3,
            "timestamp": "watch_time",
            "columns": [{"name": "item", "column": "watch_item"}, {"name": "hour", "column": "watch_hour"}],
        }
    ],
    "candidate": ["item_id", "price", "also"],
    "labels": ["click"],
}
DAY = pa.array([19_000], pa.int32()).cast(pa.date32())
TRAINED = pa.table(
    {
        "age": pa.array([20.0], pa.float32()),
        "price": [1.0],
        "new": [True],
        "hour": pa.array([3], pa.int8()),
        "city": ["x"],
        "big": pa.array([2**63 + 1], pa.uint64()),
        "flag": [True],
        "day": DAY,
        "seen": pa.array([1], pa.timestamp("ms", "UTC")),
        "none": pa.nulls(1),
        "item_id": [7],
        "likes": [[7, 8]],
        "also": [[9]],
        "watch_item": [[7, 8]],
        "watch_hour": [[1, 2]],
        "watch_time": pa.array([[1, 2]], pa.list_(pa.int64())),
        "click": [1.0],
    }
)
USER: dict[str, Any] = {
    "age": 20.5, "new": False, "hour": 3, "city": "x", "big": 2**64 - 1, "flag": True, "day": "2022-01-08",
    "seen": "1970-01-01T00:00:00.001Z", "none": None, "likes": [7, None], "watch_item": [9, 8, None, 7],
    "watch_hour": [0, 23, 1, 2], "watch_time": [1, 1, 2, 3],
}  # fmt: skip
CANDIDATE: dict[str, Any] = {"item_id": 7, "price": 3, "also": [7]}


@functools.cache
def fitted(candidate: bool = True) -> Fitted:
    """What was fitted on TRAINED."""
    features = FeatureSchema.model_validate(FEATURES if candidate else {**FEATURES, "candidate": []})
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(TRAINED, Path(folder) / "a.parquet")
        return fit(features, folder)


def encoder(candidate: bool = True, **signature: Any) -> Encoder:
    """`candidate` False: no feature is said to be the candidate's. `signature`: what absent and unknown keys mean."""
    found = fitted(candidate)
    assert found.meaning is not None
    return Encoder(found.meaning.features, found, signature_of(found.meaning, **signature))


def arrays(inputs: Inputs) -> list[Any]:
    """All numbers of a request, as lists."""
    sides = (inputs.users, inputs.candidates)
    parts = [part for side in sides for part in (side.dense, side.ids)]
    lists = [one for side in sides for one in (*side.bags, *side.histories)]
    return [part.tolist() for part in (*parts, *(one.rows for one in lists), *(one.lengths for one in lists))]
