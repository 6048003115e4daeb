"""A small data set and the arguments of a short training run, for jobs that are really started."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from interformer_rec.data.recipes.catalog import prepare
from tests.training.conftest import OPTIONS, SMALL

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of a data set of 1,501 training rows."""
    folder = tmp_path_factory.mktemp("launch") / "synthetic"
    prepare("synthetic", str(folder), None, OPTIONS)
    return folder / "config.yaml"


@pytest.fixture(scope="session")
def job_env() -> dict[str, str]:
    """What an active virtual environment is to a job: its programs come first. Nothing of the caller's Slurm or TorchX."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "TORCHX", "LOGLEVEL"))}
    return {**env, "PATH": f"{BIN}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}


def short_run(out: Path) -> list[str]:
    """One epoch into `out`. `--set=` in one word: TorchX refuses `--set` given twice."""
    return [f"--set={item}" for item in [*SMALL, "training.epochs=1", f"training.out={out}"]]
