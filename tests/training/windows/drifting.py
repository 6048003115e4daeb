"""Windows in which items live for a while: Parquet files and a config of a model that reads them with growing tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from interformer_rec.config import run as config
from interformer_rec.config.run import RunConfig
from interformer_rec.data.fit import Fitted
from interformer_rec.storage import Storage
from interformer_rec.training.scoring.trained import fitted_of
from tests.data.growth.reference import Plain

WINDOWS = 4
ROWS = 240  # of a window
LIVING = 20  # items a window has; BORN of them are new, and as many of the window before are gone
BORN = 8
KEEP = 2

TREE: dict[str, Any] = {
    "name": "drifting",
    "seed": 3,
    "data": {"batch_size": ROWS // 4, "eval_batch_size": 64, "shuffle_rows": 500},
    "features": {
        "tables": {
            "item": {"ids": "vocab", "grow": {"rows": 40, "keep": KEEP}},
            "maker": {"ids": "vocab", "grow": {"rows": 6, "min_count": 2}},
            "user": {"ids": "hash", "num_embeddings": 50},
        },
        "ids": ["item", "maker", "user"],
        "sequences": [{"name": "past", "max_length": 4, "columns": [{"name": "item", "column": "past"}]}],
        "labels": ["click"],
    },
    "model": {"embedding_dim": 32, "d": 8, "layers": 1, "head": [16]},
    "optimizer": {"embedding": {"kind": "adagrad", "lr": 0.1}},
    "training": {"device": "cpu", "log_every_steps": 2, "checkpoint": {"keep": 99}},
}


def items_of(window: int) -> np.ndarray:
    """Ids that occur in a window: an item is there for LIVING / BORN windows. In the last window none is new."""
    count = LIVING if window < WINDOWS - 1 else LIVING - BORN
    return np.arange(window * BORN, window * BORN + count) * 10**9 + 7


def file_of(place: Path, window: int) -> Path:
    """Of the rows of a window."""
    return place / f"hr={window:02}" / "part-0.parquet"


def write_windows(place: Path, *which: int) -> Path:
    """A file a window; the candidate and the history are of the window's items."""
    for window in which:
        random = np.random.default_rng(100 + window)
        items = items_of(window)
        item = np.concatenate([items, random.choice(items, ROWS - len(items))])
        past = [random.choice(items, random.integers(0, 6)).tolist() for _ in range(ROWS)]
        table = pa.table(
            {
                "item": item,
                "maker": [f"m{id_ // 10**9 // 4}" for id_ in item],
                "user": random.integers(0, 400, ROWS),
                "past": pa.array(past, pa.list_(pa.int64())),
                "click": (random.random(ROWS) < 0.2 + 0.6 * (item // 10**9 % 2)).astype(np.int8),
            }
        )
        path = file_of(place, window)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, row_group_size=50)
    return place


def settings(place: Path, out: Path, *overrides: str) -> RunConfig:
    """The config with its run in `out`."""
    lines = [f"data.windows.path={place}", f"training.out={out}", *overrides]
    return config.parse_yaml(yaml.safe_dump(TREE), "test", lines)


def expected(place: Path) -> list[dict[str, list[Any]]]:
    """The id of each row after each window, in plain Python."""
    plain = {"item": Plain(settings(place, place).features.tables["item"].grow)}
    plain["maker"] = Plain(settings(place, place).features.tables["maker"].grow)
    found = []
    for window in range(WINDOWS):
        columns = pq.read_table(file_of(place, window)).to_pydict()
        ids = {"item": [*columns["item"], *(id_ for row in columns["past"] for id_ in row)], "maker": columns["maker"]}
        for name, one in plain.items():
            one.grow({id_: ids[name].count(id_) for id_ in dict.fromkeys(ids[name])})
        found.append({name: one.ids() for name, one in plain.items()})
    return found


def vocabularies(checkpoint: Path) -> tuple[Fitted, dict[str, list[Any]]]:
    """What a checkpoint says of its growing tables."""
    fitted = fitted_of(Storage.open(checkpoint))
    return fitted, {name: fitted.vocabularies[name].to_pylist() for name in ("item", "maker")}
