"""The config.yaml that a recipe writes beside its Parquet files. In: features and settings as plain values; out: a file
that `interformer train` takes as it is."""

from pathlib import Path
from typing import Any

import yaml

MODEL = {"embedding_dim": 16, "dropout": 0.1}


def write(
    folder: Path,
    out: Path,
    name: str,
    features: dict[str, Any],
    model: dict[str, Any] = MODEL,
    batch_size: int = 1024,
    splits: dict[str, str] | None = None,
) -> None:
    """Write config.yaml into `folder`. `splits`: their paths; None: a file each in `out`, where the folder will stand."""
    splits = splits or {split: f"{out}/{split}.parquet" for split in ("train", "valid", "test")}
    tree = {
        "name": name,
        "data": {**splits, "batch_size": batch_size},
        "features": features,
        "model": model,
        "optimizer": {
            "dense": {"lr": 1.0e-3, "clip_norm": 10.0},
            "embedding": {"kind": "rowwise_adagrad", "lr": 0.02, "l2": 1.0e-2},
        },
        "training": {"epochs": 3, "patience": 1, "monitor": "auc"},
    }
    text = yaml.safe_dump(tree, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)
    (folder / "config.yaml").write_text(
        f"# Written by `interformer data {name}`; a start, not a tuned recipe.\n{text}", encoding="utf-8"
    )


def sequence(
    name: str, length: int, columns: dict[str, tuple[str, str]], timestamp: str | None = None
) -> dict[str, Any]:
    """A sequence group; `columns`: name -> (list column, table)."""
    group: dict[str, Any] = {"name": name, "max_length": length}
    if timestamp:
        group["timestamp"] = timestamp
    group["columns"] = [{"name": one, "column": column, "table": table} for one, (column, table) in columns.items()]
    return group
