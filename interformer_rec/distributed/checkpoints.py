"""The checkpoints of a run. In: a folder or URI; out: which there are, which is the last and which the best, and which may go."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from interformer_rec.distributed.manifest import MANIFEST, Manifest
from interformer_rec.errors import DamagedError
from interformer_rec.storage import Storage

INDEX = "index.json"  # {"last": name, "best": name}
PREFIX = "step-"


class Checkpoints:
    """Names are step-00000120; one counts when its manifest is there."""

    def __init__(self, location: str | os.PathLike[str]) -> None:
        """Raises InputError for a location that cannot be."""
        self.storage = Storage.open(location)
        self.lost: Callable[[], str] = lambda: ""  # why nothing may be written here any more, in a sentence

    def folder(self, step: int) -> Storage:
        """Where the checkpoint of a step goes."""
        return self.storage.folder(f"{PREFIX}{step:08d}")

    def newest_first(self) -> list[str]:
        """Names of the checkpoints that were finished."""
        return [name for name in self._names() if self.storage.size(f"{name}/{MANIFEST}") is not None]

    def best(self) -> str | None:
        """Name of the best by the monitored metric, else of the last; None before the first."""
        index = self._index()
        return index.get("best", index.get("last"))

    def note(self, name: str, best: bool, keep: int) -> None:
        """A new one is whole: write it down, then remove all but the newest `keep`, the best, and what these build on.

        What is newer than the new one comes from a future that was given up (a damaged checkpoint that `--resume` passed over);
        it goes, and so does what was never finished. Raises OSError; nothing is removed where another job writes by now.
        """
        if lost := self.lost():
            raise OSError(lost)
        index = {**self._index(), "last": name, **({"best": name} if best else {})}
        self.storage.put(INDEX, json.dumps(index).encode())
        present = [other for other in self.newest_first() if other <= name]
        stay = {*present[:keep], *index.values()}
        stay |= {base for other in sorted(stay) if (base := self._base(other))}
        for other in self._names():
            if other not in stay:
                self.storage.remove(f"{other}/{MANIFEST}")  # first, so that half of it is no checkpoint
                self.storage.remove(other)

    def _base(self, name: str) -> str | None:
        try:
            return Manifest.read(self.storage.folder(name)).base
        except DamagedError:
            return None

    def _names(self) -> list[str]:
        return sorted((name for name in self.storage.names() if name.startswith(PREFIX)), reverse=True)

    def _index(self) -> dict[str, str]:
        try:
            return json.loads(self.storage.get(INDEX))
        except (FileNotFoundError, NotADirectoryError):
            return {}
