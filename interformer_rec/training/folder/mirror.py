"""A run folder in a store, seen as a folder of this machine. In: a store's folder; out: a local one, brought from there and sent there.

The small files of a run (all but checkpoints, which go to the store by themselves) are written locally, some of them appended to, and
sent whole when they have changed. TensorBoard's and the report's are not brought back: each start writes new ones.
"""

import os
import shutil
import tempfile
import uuid
from pathlib import Path

from pyarrow import fs

from interformer_rec.files import own_name, write_whole
from interformer_rec.storage import Storage, patiently

FOLDERS = ("features",)  # brought back with what is beside them
STAYS = ("report.html",)
LAST = "complete.json"  # sent after everything else, as it says that everything is there
PIECE = 1 << 20


class Mirror:
    """The local folder is made when something is written or brought there; `close` removes it."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.path = Path(tempfile.gettempdir()) / f"interformer-run-{uuid.uuid4().hex[:12]}"
        self._same: dict[str, tuple[int, int]] = {}  # size and time of change of files that the store has

    def fetch(self) -> None:
        """Bring the run's files. Raises OSError, DamagedError."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in ("", *FOLDERS):
            self._fetch(folder, self.storage.folder(folder) if folder else self.storage)

    def send(self) -> None:
        """Copy what has changed since the last time to the store. Raises OSError."""
        found = [str(path.relative_to(self.path)) for path in self.path.rglob("*") if path.is_file()]
        for name in sorted(found, key=lambda name: (name == LAST, name)):
            state = self._state(name)
            if not name.endswith(".part") and self._same.get(name) != state:
                patiently(lambda name=name: self._send(name))  # type: ignore[misc]
                self._same[name] = state

    def close(self) -> None:
        """Remove the local folder."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _fetch(self, folder: str, source: Storage) -> None:
        selector = fs.FileSelector(source.root, allow_not_found=True)
        for info in patiently(lambda: source.filesystem.get_file_info(selector)):
            name = info.base_name
            if info.type != fs.FileType.File or not name or name in STAYS or name.startswith("lock-"):
                continue
            own_name(name, source.location)
            (self.path / folder).mkdir(exist_ok=True)
            write_whole(self.path / folder / name, source.get(name))
            relative = f"{folder}/{name}".lstrip("/")
            self._same[relative] = self._state(relative)

    def _send(self, name: str) -> None:
        with (self.path / name).open("rb") as source, self.storage.create(name) as target:
            while piece := source.read(PIECE):
                target.write(piece)

    def _state(self, name: str) -> tuple[int, int]:
        status = os.stat(self.path / name)
        return status.st_size, status.st_mtime_ns
