"""A small synthetic data set on disk and a config for it, shared by the tests of this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from interformer_rec.config import run as config
from interformer_rec.data.recipes.catalog import prepare
from interformer_rec.training import run
from tests.made_once import made_once
from tests.training.runs import SHORT, SMALL, settings

OPTIONS = {"rows": "1501", "files": "3", "fields": "2", "groups": "2", "max_length": "12,6", "vocab": "60", "seed": "3"}


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with train/ (1,501 rows in 3 files), valid.parquet, test.parquet and config.yaml."""

    def make(folder: Path) -> Path:
        prepare("synthetic", str(folder / "synthetic"), None, OPTIONS)
        return folder / "synthetic"

    return made_once(tmp_path_factory, "data", make)


@pytest.fixture
def small(synthetic: Path, tmp_path: Path):
    """A function: overrides -> RunConfig of a small model on the data, with its run folder under tmp_path."""

    def load(*overrides: str) -> config.RunConfig:
        return config.load(synthetic / "config.yaml", [*SMALL, f"training.out={tmp_path}/run", *overrides])

    return load


@pytest.fixture(scope="session")
def began(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The config, as a tree, and the folder of a run that ended inside an epoch: two labels, two of everything else. Not to be changed."""

    def make(folder: Path) -> Path:
        assert run.train(settings(tree, folder / "run", *SHORT)) == 0
        return folder / "run"

    tree = yaml.safe_load((synthetic / "config.yaml").read_text(encoding="utf-8"))
    tree["features"]["labels"] = [{"name": "label"}, {"name": "again", "column": "label", "weight": 0.2}]
    tree["features"]["bags"].append({"name": "tags2", "column": "tags", "table": "tags"})
    tree["features"]["candidate"] = ["item_id", "category"]
    return tree, made_once(tmp_path_factory, "began", make)
