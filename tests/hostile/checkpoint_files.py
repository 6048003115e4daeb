"""Runs whose files somebody changed. In: a trained run; out: a copy of it with another manifest, and what the doors say to it."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from interformer_rec import cli


def change_manifest(checkpoint: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a manifest as someone would who knows the format."""
    path = checkpoint / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    del content["crc32"]
    content["crc32"] = zlib.crc32(json.dumps(content, sort_keys=True).encode())
    path.write_text(json.dumps(content))


def entry(content: bytes) -> dict[str, Any]:
    """Of a small file, for the manifest."""
    return {"bytes": len(content), "crc32": [zlib.crc32(content)] if content else []}


def replace_file(checkpoint: Path, name: str, content: bytes) -> None:
    """Another content for one of the files, with checksums that fit."""
    (checkpoint / name).write_bytes(content)
    change_manifest(checkpoint, lambda manifest: manifest["files"].update({name: entry(content)}))


def copied(run: Path, to: Path) -> Path:
    """A copy of a run; its newest checkpoint."""
    shutil.copytree(run, to)
    return max((to / "checkpoints").glob("step-*"))


def doors(run: Path, data: Path) -> dict[str, list[str]]:
    """The command lines that read a run."""
    out = run.parent / "scores.parquet"
    return {
        "evaluate": ["evaluate", str(run), "--data", str(data / "test.parquet")],
        "predict": ["predict", str(run), "--data", str(data / "test.parquet"), "--out", str(out)],
        "resume": ["train", str(run / "config.yaml"), "--resume", "--set", f"training.out={run}"],
    }


def exit_code(arguments: list[str]) -> int:
    """Of the command line, run in this process."""
    try:
        return cli.main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
