"""What loaders of a run read."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from interformer_rec.config.features import UNKNOWN_ROW
from interformer_rec.config.run import RunConfig
from interformer_rec.data.fit import fit
from interformer_rec.distributed.environment import Environment
from interformer_rec.training.build import eval_loader, train_loader


def test_training_drops_ids_and_evaluation_does_not(tmp_path: Path) -> None:
    path = str(tmp_path / "rows.parquet")
    pq.write_table(pa.table({"item": range(40), "label": [0.0, 1.0] * 20}), path)
    config = RunConfig.model_validate(
        {
            "name": "dropping",
            "model": {"kind": "dcnv2"},
            "data": {"train": path},
            "features": {"tables": {"item": {}}, "ids": ["item"], "labels": ["label"]},
        }
    )
    env, fitted = Environment(0, 1, 0, 1, torch.device("cpu")), fit(config.features, path)
    read = {}
    for name, loader in (
        ("train", train_loader(config, env, fitted)),
        ("eval", eval_loader(config, path, env, fitted)),
    ):
        read[name] = sorted(row for batch, _ in loader.batches() for row in batch.sparse.values().tolist())
    assert read["eval"] == list(range(2, 42))
    assert 5 < read["train"].count(UNKNOWN_ROW) < 35, "half of the ids that are there once"
