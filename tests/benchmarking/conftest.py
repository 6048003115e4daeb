"""A small data set, and one benchmark of it that several tests look at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from interformer_rec import cli
from interformer_rec.data.recipes.catalog import prepare
from tests.made_once import made_once

OPTIONS = {"rows": "600", "files": "1", "fields": "1", "groups": "2", "max_length": "6", "vocab": "40", "seed": "3"}
SMALL = ["data.batch_size=24", "model.embedding_dim=8", "model.d=8", "model.head=[16]", "training.device=cpu"]
SHORT = ["--rounds", "1", "--steps", "3"]
LENGTHS, CANDIDATES = (3, 12), (1, 4)


def sets(*pairs: str) -> list[str]:
    """As the command line has them."""
    return [part for pair in (*SMALL, *pairs) for part in ("--set", pair)]


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of a synthetic data set with two histories of up to 6 events."""

    def make(folder: Path) -> Path:
        prepare("synthetic", str(folder / "data"), None, OPTIONS)
        return folder / "data" / "config.yaml"

    return made_once(tmp_path_factory, "benchmarking", make)


@pytest.fixture(scope="session")
def measured(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a benchmark of four points. Not to be changed."""

    def make(folder: Path) -> Path:
        varied = ["--lengths", "12,3", "--candidates", "1,4", "--out", str(folder / "out")]
        assert cli.main(["benchmark", str(config), *sets("model.split=true"), *SHORT, *varied]) == 0
        return folder / "out"

    return made_once(tmp_path_factory, "measured", make)


def content(out: Path) -> dict[str, Any]:
    """What benchmark.json says."""
    return json.loads((out / "benchmark.json").read_text(encoding="utf-8"))
