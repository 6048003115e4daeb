"""A small synthetic data set on disk and a config for it, shared by the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from interformer_rec import config
from interformer_rec.data.recipes.catalog import prepare

OPTIONS = {"rows": "1501", "files": "3", "fields": "2", "groups": "2", "max_length": "12,6", "vocab": "60", "seed": "3"}
SMALL = [
    "data.batch_size=128",
    "data.eval_batch_size=64",
    "data.shuffle_rows=500",
    "model.embedding_dim=8",
    "model.d=8",
    "model.layers=1",
    "model.head=[16]",
    "training.device=cpu",
    "training.epochs=2",
    "training.patience=null",
    "training.log_every_steps=4",
]


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with train/ (1,501 rows in 3 files), valid.parquet, test.parquet and config.yaml."""
    folder = tmp_path_factory.mktemp("data") / "synthetic"
    prepare("synthetic", str(folder), None, OPTIONS)
    return folder


@pytest.fixture
def small(synthetic: Path, tmp_path: Path):
    """A function: overrides -> RunConfig of a small model on the data, with its run folder under tmp_path."""

    def load(*overrides: str) -> config.RunConfig:
        return config.load(synthetic / "config.yaml", [*SMALL, f"training.out={tmp_path}/run", *overrides])

    return load
