"""Runs for tests: the commands, and what a run has logged."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from interformer_rec.config import run as config
from interformer_rec.config.run import RunConfig
from interformer_rec.training.folder.run_folder import RunFolder
from interformer_rec.training.start.resume import Resumed, resumed

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
CLI = [sys.executable, "-m", "interformer_rec.cli"]
TWO_RANKS = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc_per_node",
    "2",
    "-m",
    "interformer_rec.cli",
]


def records(folder: Path, split: str) -> list[dict]:
    """The records of one kind in metrics.jsonl; a run that goes on may have written half of its last line."""
    lines = (folder / "metrics.jsonl").read_text().rpartition("\n")[0].splitlines()
    return [record for record in map(json.loads, lines) if record["split"] == split]


def save_config(small, tmp_path: Path, *overrides: str) -> Path:
    """The small config as a file."""
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml(small(*overrides)))
    return path


SHORT = ["data.test=null", "training.max_steps=10", "training.checkpoint.every_steps=10", "data.on_bad_row=skip"]


def settings(tree: dict[str, Any], folder: Path, *overrides: str) -> RunConfig:
    """The config of a tree, small, with its run in `folder`."""
    return config.parse_yaml(yaml.safe_dump(tree), "test", [*SMALL, f"training.out={folder}", *overrides])


def compare(began: tuple[dict[str, Any], Path], *overrides: str, **features: Any) -> tuple[Resumed, RunConfig]:
    """A run that `began` against its config with changes, as `train` compares them before it builds anything; and that config."""
    tree, folder = began
    changed = settings({**tree, "features": {**tree["features"], **features}}, folder, *overrides)
    return resumed(changed, RunFolder(changed)), changed


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
