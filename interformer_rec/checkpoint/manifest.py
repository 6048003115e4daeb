"""What a whole checkpoint consists of. In: entries of its files; out: manifest.json, written last, and later what is damaged.

A folder without a manifest is not a checkpoint. It holds size and checksums (CRC-32 of every piece) of each file, a checksum of itself,
and of an incremental one the name of the full checkpoint that it builds on, with the SHA-256 of that one's manifest: one of the same
name that belongs to another run, or was written anew, is not the base.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Field

from interformer_rec.checkpoint.checked import MANIFEST, PIECE, FileEntry, Verified, small_file
from interformer_rec.checkpoint.tensor_file import TensorFile
from interformer_rec.errors import DamagedError
from interformer_rec.files import StrictFile, conform, json_object, own_name
from interformer_rec.storage import Storage

FOLDERS = ("run", "run/features")  # inside a checkpoint, for files of the run folder
FORMAT = 4


@dataclass(frozen=True)
class Base:
    """The full checkpoint that an incremental one builds on; it lies beside it."""

    name: str
    sha256: str  # of its manifest


@dataclass(frozen=True)
class Manifest:
    """A checkpoint's files: name -> {"bytes", "crc32"}; `base`: None in a full one; `sha256`: of this manifest, once it is a file."""

    storage: Storage
    files: dict[str, dict[str, Any]]
    base: Base | None
    sha256: str = ""

    @classmethod
    def read(cls, storage: Storage) -> Manifest:
        """Raises DamagedError if there is none or it cannot be read; its cause is an OSError where the store is at fault."""
        where = storage.folder(MANIFEST).location
        raw = small_file(storage, MANIFEST, "the checkpoint was never finished")
        content = json_object(raw, where)
        if content.get("format") != FORMAT:
            raise DamagedError(f"{where} has format {content.get('format')!r:.80}; this release reads format {FORMAT}")
        found = conform(content, _Content, where).model_dump()
        if found["crc32"] != _checksum(found):
            raise DamagedError(f"{where} is not what was written: its checksum differs")
        for name, entry in found["files"].items():
            storage.refuse_link_out(own_name(name, where, FOLDERS), where)
            if len(entry["crc32"]) != -(-entry["bytes"] // PIECE):
                raise DamagedError(f"{where} cannot be read: {name} has {len(entry['crc32'])} checksums")
        base = Base(**found["base"]) if found["base"] is not None else None
        if base is not None:
            storage.folder("..").refuse_link_out(own_name(base.name, where), where)
        return cls(storage, found["files"], base, hashlib.sha256(raw).hexdigest())

    def write(self) -> str:
        """Declare the checkpoint whole; the SHA-256 of what is written."""
        base = asdict(self.base) if self.base is not None else None
        content: dict[str, Any] = {"format": FORMAT, "base": base, "files": self.files}
        raw = json.dumps({**content, "crc32": _checksum(content)}, indent=1).encode()
        self.storage.put(MANIFEST, raw)
        return hashlib.sha256(raw).hexdigest()

    def base_manifest(self) -> Manifest | None:
        """Of the full checkpoint that this one builds on. Raises DamagedError, also where another one is in its place."""
        if self.base is None:
            return None
        found = Manifest.read(self.storage.folder("..").folder(self.base.name))
        if found.sha256 != self.base.sha256 or found.base is not None:
            raise DamagedError(
                f"{self.storage.location} builds on {self.base.name}, and {found.storage.location} is another checkpoint of that "
                f"name: one of another run, or written anew. Bring the right one back, or use a full checkpoint"
            )
        return found

    def tensor_file(self, name: str) -> TensorFile:
        """One of the files. Raises DamagedError."""
        return TensorFile(self.storage, name, self._entry(name))

    def content(self, name: str) -> bytes:
        """One of the files, whole; of the run's files in an incremental checkpoint the base's. Raises DamagedError."""
        ours = name in self.files or not name.startswith(f"{FOLDERS[0]}/")
        if not ours and (base := self.base_manifest()) is not None:
            return base.content(name)
        self._require_size(name)
        return bytes(Verified(self.storage, name, self._entry(name)).read(0, self._entry(name)["bytes"]))

    def entries(self, prefix: str) -> dict[str, dict[str, Any]]:
        """Files whose name begins so, of the base too, and their sizes and checksums. Raises DamagedError."""
        base = self.base_manifest()
        mine = {name: entry for name, entry in self.files.items() if name.startswith(prefix)}
        return {**(base.entries(prefix) if base is not None else {}), **mine}

    def require_ranks(self, count: int) -> None:
        """Raise DamagedError if the file of one of the `count` ranks that wrote the checkpoint is not listed: an increment needs all."""
        for rank in range(count):
            self._entry(rank_file(rank))

    def _entry(self, name: str) -> dict[str, Any]:
        if name not in self.files:
            raise DamagedError(f"{self.storage.location} has no {name}: it is not a checkpoint of a run")
        return self.files[name]

    def require_sizes(self) -> None:
        """Cheap test, by size, of all files and of the base's. Raises DamagedError that names the file."""
        for name in sorted(self.files):
            self._require_size(name)
        base = self.base_manifest()
        if base is not None:
            base.require_sizes()

    def _require_size(self, name: str) -> None:
        entry, where = self._entry(name), self.storage.folder(name).location
        found = self.storage.size(name)
        if found is None:
            raise DamagedError(f"{where} is missing")
        if found != entry["bytes"]:
            raise DamagedError(f"{where} has {found} bytes, {entry['bytes']} were written")


def rank_file(rank: int) -> str:
    """Name of the file with a rank's tables."""
    return f"rank-{rank:05d}.safetensors"


class _Base(StrictFile):
    name: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Content(StrictFile):
    format: int
    base: _Base | None
    files: dict[str, FileEntry]
    crc32: int


def _checksum(content: dict[str, Any]) -> int:
    """Of everything but the checksum, however it is laid out."""
    rest = {key: value for key, value in content.items() if key != "crc32"}
    return zlib.crc32(json.dumps(rest, sort_keys=True).encode())
