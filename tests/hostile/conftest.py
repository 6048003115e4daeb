"""A run that the drivers of this folder copy and change."""

from __future__ import annotations

from pathlib import Path

import pytest

from interformer_rec.config import run as config
from interformer_rec.training import run
from tests.made_once import made_once
from tests.training.conftest import SMALL, synthetic

__all__ = ["synthetic", "trained_run"]


@pytest.fixture(scope="session")
def trained_run(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run with checkpoints step-00000004, 8 (incremental) and 10; nobody changes it."""

    def make(folder: Path) -> Path:
        out = folder / "run"
        options = ("training.eval_every_steps=4", "training.max_steps=10", "training.checkpoint.full_every=2")
        options = (*options, "training.checkpoint.keep=3", f"training.out={out}", "data.test=null")
        assert run.train(config.load(synthetic / "config.yaml", [*SMALL, *options])) == 0
        return out

    return made_once(tmp_path_factory, "hostile", make)
