"""Runs for tests: the commands, and what a run has logged."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from interformer_rec import config

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
    """The records of one kind in metrics.jsonl."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["split"] == split]


def save_config(small, tmp_path: Path, *overrides: str) -> Path:
    """The small config as a file."""
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml(small(*overrides)))
    return path
