"""A small data set, a config whose training takes a second, and one study of it that all tests of this folder look at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from interformer_rec import cli
from interformer_rec.data.recipes.catalog import prepare
from interformer_rec.tuning.question import Question, ask
from tests.made_once import made_once

OPTIONS = {"rows": "600", "files": "1", "fields": "1", "groups": "1", "max_length": "6", "vocab": "40", "seed": "3"}
SMALL = ["data.batch_size=64", "model.embedding_dim=8", "model.d=8", "model.head=[16]", "training.device=cpu"]
SMALL += ["training.epochs=1", "training.patience=null", "training.eval_every_steps=3", "training.max_steps=6"]
SPACE = """
optimizer.dense.lr: {log: [1.0e-4, 1.0e-1]}
model.d: {choices: [8, 12]}
model.heads: {choices: [2, 4]}  # 12 does not go with 4: rotary positions turn pairs of channels
"""
TRIALS = 7


def sets(*pairs: str) -> list[str]:
    """As the command line has them."""
    return [part for pair in (*SMALL, *pairs) for part in ("--set", pair)]


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of a data set whose test file is not there."""

    def make(folder: Path) -> Path:
        prepare("synthetic", str(folder / "data"), None, OPTIONS)
        (folder / "data" / "test.parquet").rename(folder / "data" / "hidden")
        return folder / "data" / "config.yaml"

    return made_once(tmp_path_factory, "tuning", make)


@pytest.fixture(scope="session")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The space of the study, as a file."""
    path = tmp_path_factory.mktemp("space") / "space.yaml"
    path.write_text(SPACE)
    return path


@pytest.fixture(scope="session")
def study(config: Path, space: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of TRIALS trials, begun and ended in one process. Not to be changed."""

    def make(folder: Path) -> Path:
        out = folder / "out"
        argv = ["tune", str(config), *sets(), "--trials", str(TRIALS), "--space", str(space), "--out", str(out)]
        assert cli.main(argv) == 0
        return out

    return made_once(tmp_path_factory, "study", make)


@pytest.fixture
def asked(config: Path, space: Path, tmp_path: Path) -> Callable[..., Question]:
    """A function: overrides -> the question of the study, in a folder of the test's own."""
    return lambda *changes: ask(str(config), [*SMALL, *changes], str(space), str(tmp_path / "out"))


def content(out: Path) -> dict[str, Any]:
    """What study.json says."""
    return json.loads((out / "study.json").read_text(encoding="utf-8"))
