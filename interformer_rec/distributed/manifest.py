"""What a whole checkpoint consists of. In: entries of its files; out: manifest.json, written last, and later what is damaged.

A folder without a manifest is not a checkpoint. It holds size and checksums (CRC-32 of every piece) of each file, and the name
of the full checkpoint that an incremental one builds on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from interformer_rec.distributed.tensor_file import TensorFile, Verified
from interformer_rec.errors import DamagedError
from interformer_rec.files import json_object, own_name
from interformer_rec.storage import Storage

MANIFEST = "manifest.json"
FOLDERS = ("run", "run/features")  # inside a checkpoint, for files of the run folder
FORMAT = 2


@dataclass(frozen=True)
class Manifest:
    """A checkpoint's files: name -> {"bytes", "crc32"}; `base`: name of the full checkpoint beside it, None in a full one."""

    storage: Storage
    files: dict[str, dict[str, Any]]
    base: str | None

    @classmethod
    def read(cls, storage: Storage) -> Manifest:
        """Raises DamagedError if there is none or it cannot be read."""
        where = storage.folder(MANIFEST).location
        try:
            content = json_object(storage.get(MANIFEST), where)
            if content["format"] != FORMAT:
                raise DamagedError(f"{where} has format {content['format']!r}; this release reads format {FORMAT}")
            _refuse_names_that_lead_out(storage, content["files"], content["base"], where)
            return cls(storage, content["files"], content["base"])
        except FileNotFoundError:
            raise DamagedError(f"{where} is missing: the checkpoint was never finished") from None
        except (OSError, KeyError, TypeError) as error:
            raise DamagedError(f"{where} cannot be read: {error!r}") from None

    def write(self) -> None:
        """Declare the checkpoint whole."""
        content = {"format": FORMAT, "base": self.base, "files": self.files}
        self.storage.put(MANIFEST, json.dumps(content, indent=1).encode())

    def base_manifest(self) -> Manifest | None:
        """Of the full checkpoint that this one builds on. Raises DamagedError."""
        return Manifest.read(self.storage.folder("..").folder(self.base)) if self.base else None

    def tensor_file(self, name: str) -> TensorFile:
        """One of the files. Raises DamagedError."""
        return TensorFile(self.storage, name, self._entry(name))

    def content(self, name: str) -> bytes:
        """One of the files, whole; of an incremental checkpoint also the base's. Raises DamagedError."""
        if name not in self.files and (base := self.base_manifest()) is not None:
            return base.content(name)
        entry = self._entry(name)
        return bytes(Verified(self.storage, name, entry).read(0, entry["bytes"]))

    def names(self, prefix: str) -> list[str]:
        """Files whose name begins so, of the base too."""
        base = self.base_manifest()
        return sorted(
            {name for name in self.files if name.startswith(prefix)} | set(base.names(prefix) if base else ())
        )

    def _entry(self, name: str) -> dict[str, Any]:
        if name not in self.files:
            raise DamagedError(f"{self.storage.location} has no {name}: it is not a checkpoint of a run")
        return self.files[name]

    def require_sizes(self) -> None:
        """Cheap test, by size, of all files and of the base's. Raises DamagedError that names the file."""
        for name, entry in sorted(self.files.items()):
            found = self.storage.size(name)
            where = self.storage.folder(name).location
            if found is None:
                raise DamagedError(f"{where} is missing")
            if found != entry["bytes"]:
                raise DamagedError(f"{where} has {found} bytes, {entry['bytes']} were written")
        base = self.base_manifest()
        if base is not None:
            base.require_sizes()


def _refuse_names_that_lead_out(storage: Storage, files: Iterable[str], base: str | None, where: str) -> None:
    for name in files:
        storage.refuse_link_out(own_name(name, where, FOLDERS), where)
    if base is not None:
        storage.folder("..").refuse_link_out(own_name(base, where), where)


def damage(storage: Storage) -> list[str]:
    """Read every byte of a checkpoint (and its base): what is wrong, a sentence a file; empty if it is whole."""
    try:
        manifest = Manifest.read(storage)
        manifest.require_sizes()
    except DamagedError as error:
        return [str(error)]
    found = []
    for name, entry in sorted(manifest.files.items()):
        try:
            Verified(storage, name, entry).check()
        except DamagedError as error:
            found.append(str(error))
    return found + (damage(manifest.storage.folder("..").folder(manifest.base)) if manifest.base else [])
