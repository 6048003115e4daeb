"""Folders that are whole or nothing: sizes and checksums of all files in manifest.json, written last. In: a folder; out: a checked one.

Versions and deltas are kept so. What the files say is data: a name in them never leads out of the folder. Needs no torch.
"""

import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from interformer_rec.checkpoint.checked import MANIFEST, PIECE, Checked, FileEntry, Verified, small_file
from interformer_rec.errors import DamagedError, InputError
from interformer_rec.files import StrictFile, conform, json_object, own_name
from interformer_rec.storage import Storage

FORMAT = 1  # of the manifest
FOLDERS = ("features", "tables", "graphs", "vocabularies")  # inside a version or a delta


class _Listed(StrictFile):
    format: int
    files: dict[str, FileEntry]


@dataclass(frozen=True)
class WholeFolder:
    """A folder on this machine whose files are what was written."""

    folder: Path
    sha256: str  # of its manifest
    kept: object = None  # a temporary folder that goes with it


def entry_of(path: Path) -> dict[str, Any]:
    """Size and checksums of a file on this machine."""

    class _Nowhere:
        def write(self, content: memoryview | bytes, /) -> object:
            return None

    checked = Checked(_Nowhere(), lambda: None)
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            checked.write(piece)
    return checked.entry()


def declare(folder: Path) -> str:
    """Write the manifest of a folder that is complete; returns its SHA-256."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    content = {"format": FORMAT, "files": {name: entry_of(folder / name) for name in names if name != MANIFEST}}
    raw = json.dumps(content, indent=1).encode()
    Storage.open(folder).put(MANIFEST, raw)
    return hashlib.sha256(raw).hexdigest()


def copy_to(there: Storage, folder: Path) -> None:
    """A declared folder of this machine into `there`, its manifest last; nothing is copied where it lies there already."""
    if there.local is not None and there.local.resolve() == folder.resolve():
        return
    listed = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    for name in [*(name for name in listed if name != MANIFEST), MANIFEST]:
        with there.create(name) as sink, (folder / name).open("rb") as file:
            while piece := file.read(PIECE):
                sink.write(piece)


def opened(
    there: Storage, missing: str, sha256: str | None, named_by: str, checksums: bool | str = True
) -> WholeFolder:
    """A folder as it was declared; what lies in a store is copied to this machine, and read in full.

    `missing`: what it means that there is no manifest; `sha256`: what the manifest must have, as `named_by` says. `checksums`: read every
    byte of a local folder, or those of the files whose names begin so; of others sizes alone are compared. Raises DamagedError.
    """
    where = there.folder(MANIFEST).location
    raw = small_file(there, MANIFEST, missing)
    found = hashlib.sha256(raw).hexdigest()
    if sha256 not in (None, found):
        raise DamagedError(f"{where} is not the one that {named_by} names: its checksum differs")
    listed = conform(json_object(raw, where), _Listed, where)
    if listed.format != FORMAT:
        raise DamagedError(f"{where} has format {listed.format}; this release reads format {FORMAT}")
    for file, entry in sorted(listed.files.items()):
        there.refuse_link_out(own_name(file, where, FOLDERS), where)
        read = file.startswith(checksums) if isinstance(checksums, str) else checksums
        _check(there, file, entry.model_dump(), read)
    if there.local is not None:
        return WholeFolder(there.local, found)
    kept = tempfile.TemporaryDirectory(prefix="interformer-")
    _copy(there, listed, Path(kept.name))
    return WholeFolder(Path(kept.name), found, kept)


def _check(there: Storage, file: str, entry: dict[str, Any], checksums: bool) -> None:
    found = there.size(file)
    if found != entry["bytes"]:
        what = "is missing" if found is None else f"has {found} bytes, {entry['bytes']} were written"
        raise DamagedError(f"{there.folder(file).location} {what}")
    if len(entry["crc32"]) != -(-entry["bytes"] // PIECE):
        raise DamagedError(f"{there.folder(MANIFEST).location} has {len(entry['crc32'])} checksums for {file}")
    if checksums and there.local is not None:
        Verified(there, file, entry).check()


def _copy(there: Storage, listed: _Listed, folder: Path) -> None:
    """The files of a folder in a store; each is compared with its checksums."""
    for file, entry in listed.files.items():
        reader = Verified(there, file, entry.model_dump())
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        with (folder / file).open("wb") as copy:
            for start in range(0, entry.bytes, PIECE):
                copy.write(reader.read(start, min(entry.bytes, start + PIECE)))


def cannot_write(place: Storage, what: str, error: Exception) -> InputError:
    """What to raise for an error of the file system."""
    reason = getattr(error, "strerror", None) or error
    return InputError(f"cannot write {what} to {place.location!r}: {reason}; nothing was published")


WRITE_ERRORS = (OSError, pa.ArrowException)
