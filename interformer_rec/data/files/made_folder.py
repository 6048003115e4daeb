"""A folder that a command makes. In: where it shall be, and a function that fills an empty folder; out: the folder, whole or not at all.

It is written beside its place and renamed. prepared.json in it says what was made and how large each file is, so that files made here can
be told from other people's and from changed ones, which are never overwritten.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from interformer_rec.errors import DamagedError, InputError
from interformer_rec.files import json_object

MARKER = "prepared.json"


def make_folder(target: Path, fill: Callable[[Path], dict[str, Any]]) -> None:
    """`fill` writes into an empty folder, which becomes `target`, and gives what prepared.json says beside the files' sizes.

    A folder that was made so before is replaced. Raises InputError before any work if `target` holds other files.
    """
    refuse_foreign(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        marker = fill(fresh) | {"sizes": sizes(fresh)}
        (fresh / MARKER).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")
        fresh.chmod(0o755)  # mkdtemp made it private
        _swap(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def read_marker(folder: Path) -> dict[str, Any]:
    """What prepared.json says; {} where there is none."""
    try:
        return json_object((folder / MARKER).read_bytes(), MARKER)
    except (OSError, DamagedError):
        return {}


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of every file below the folder but the marker."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MARKER)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def refuse_foreign(target: Path) -> None:
    """Raises InputError if `target` is a file, or a folder with a file that was not made here or has changed since."""
    if target.exists() and not target.is_dir():
        raise InputError(f"--out {str(target)!r} is a file; name a folder")
    if not target.is_dir():
        return
    ours = read_marker(target).get("sizes", {})
    for name, size in sizes(target).items():
        if ours.get(name) != size:
            what = "has changed since this command made it" if name in ours else "was not made by this command"
            raise InputError(f"--out {str(target)!r} holds {name}, which {what}; move it away or name another folder")


def _swap(fresh: Path, target: Path) -> None:
    """Put `fresh` in the place of `target`; what was there goes away only after it has been moved aside."""
    if not target.exists():
        os.rename(fresh, target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    os.rename(target, aside / "old")
    os.rename(fresh, target)
    shutil.rmtree(aside)
