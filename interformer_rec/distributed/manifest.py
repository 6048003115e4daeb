"""What a whole checkpoint consists of. In: the files of a folder; out: manifest.json, and later what is damaged.

The manifest is written last, so a folder without one is not a checkpoint; it holds size and BLAKE2b digest of every file.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
FORMAT = 1
CHUNK = 16 << 20  # bytes read at a time


def describe(path: Path) -> dict[str, Any]:
    """Size in bytes and digest of a file; flushes it to the disk first."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        os.fsync(file.fileno())
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return {"bytes": path.stat().st_size, "blake2b": digest.hexdigest()}


def write(folder: Path, files: dict[str, dict[str, Any]]) -> None:
    """Declare the folder whole; `files`: name -> `describe`."""
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump({"format": FORMAT, "files": files}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def damage(folder: Path, part: int = 0, parts: int = 1) -> list[str]:
    """What is wrong with a checkpoint, a sentence each; empty if nothing. Of `parts` helpers, this one reads every parts-th file."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError:
        return [f"{folder / MANIFEST} is missing: the checkpoint was never finished"]
    except (OSError, json.JSONDecodeError) as error:
        return [f"{folder / MANIFEST} cannot be read: {error}"]
    if manifest.get("format") != FORMAT:
        return [f"{folder / MANIFEST} has format {manifest.get('format')!r}; this release reads format {FORMAT}"]
    found = []
    for name, expected in sorted(manifest["files"].items())[part::parts]:
        path = folder / name
        if not path.exists():
            found.append(f"{path} is missing")
        elif path.stat().st_size != expected["bytes"]:
            found.append(f"{path} has {path.stat().st_size} bytes, {expected['bytes']} were written")
        elif describe(path) != expected:
            found.append(f"{path} is not what was written: its checksum differs")
    return found
