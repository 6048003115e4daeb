"""One holder at a time of a folder on any file system. In: a folder, who wants it; out: a lock file there, or who has it already.

On a file system of this machine (NFS and other mounted storage included) `lock.json` is created with O_EXCL, so exactly one creator
wins. A stale one is renamed away, and what was renamed is compared with what was judged: of two that break it, one goes on.

Object stores have no such creation through pyarrow. There everybody writes a claim of his own (`lock-TOKEN.json`), then lists the
claims: who sees nobody else's holds the folder; who sees a held one, or a smaller token's, withdraws. As listings show what was
written before (S3, GCS, Azure, HDFS), of any two the later lister sees the other, so no two hold at once. A stale claim is deleted by
its own name; the new holder's claim says which it broke, so that a holder that was only slow knows when it is back.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from pyarrow import fs

from interformer_rec.storage import Storage

NAME, PREFIX, SUFFIX = "lock.json", "lock-", ".json"
SILENT_SECONDS = 60.0  # the longest silence of a live holder
LONGEST = 300  # characters of a text in a lock file
LOOKS, LOOK_SECONDS = 50, 0.1  # how long a claim waits for larger ones to withdraw


@dataclass(frozen=True)
class Holder:
    """Who holds a folder; what the lock file says."""

    token: str
    host: str
    machine: str  # this boot of this kernel, and the namespace its process numbers are of
    pid: int
    process_start: str  # a later process may have the same number
    job: str  # the same for all attempts of a torchrun or Slurm job; "" outside
    since: str
    silent_seconds: float  # without a sign of life for so long it counts as dead
    held: bool = True  # False: a claim that is not decided yet
    beat: int = 0
    broke: list[str] = field(default_factory=list)  # tokens of the stale ones that gave way to it

    def to_bytes(self) -> bytes:
        """For the file."""
        return (json.dumps(asdict(self), indent=1) + "\n").encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Holder | None:
        """None for a file that is not whole (its writer died in the middle, or is about to finish), or that says nonsense."""
        try:
            values = json.loads(content)
            holder = cls(**values)
            texts = (holder.token, holder.host, holder.machine, holder.process_start, holder.job, holder.since)
            sane = all(isinstance(text, str) and text.isprintable() and len(text) < LONGEST for text in texts)
            sane &= isinstance(holder.pid, int) and holder.pid > 0 and isinstance(holder.broke, list)
            return holder if sane and 0 < holder.silent_seconds <= SILENT_SECONDS else None
        except (ValueError, TypeError, RecursionError):
            return None


@dataclass(frozen=True)
class Found:
    """Somebody else's lock."""

    name: str
    holder: Holder | None  # None: the file cannot be read as one
    mark: Any  # changes with every sign of life
    age: float | None = None  # seconds since the last one, by the storage's clock, where it has one


class LockFile(Protocol):
    """A folder's lock, seen by one who wants it. Methods raise OSError where the storage fails."""

    storage: Storage

    def take(self) -> Found | None:
        """Hold the folder: None. Or who is in the way; then nothing of ours stays there."""

    def mark(self, found: Found) -> Any:
        """The lock's mark now; None if it is gone."""

    def remove(self, found: Found) -> None:
        """Break a lock that was judged stale; if it changed meanwhile, it stays."""

    def beat(self) -> bool:
        """Give a sign of life if the lock is still ours; whether it is."""

    def release(self) -> None:
        """Give it up; what is not ours stays."""


def lock_file(storage: Storage, me: Holder) -> LockFile:
    """The kind that the storage needs."""
    return LocalLock(storage, me) if storage.local is not None else StoreLock(storage, me)


class LocalLock:
    """On a mounted file system."""

    def __init__(self, storage: Storage, me: Holder) -> None:
        assert storage.local is not None
        self.storage, self.me, self.folder = storage, me, storage.local
        self.path = self.folder / NAME
        self._creating = False  # a signal may end `take` in the middle
        self._made: list[Path] = []  # folders that were not there, the innermost first

    def take(self) -> Found | None:
        """See LockFile."""
        self._made = self._made or [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        self.folder.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                self._creating = True
                descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            except FileExistsError:
                self._creating = False
                if (found := self._look()) is not None:
                    return found
                continue  # it was given up just now
            with os.fdopen(descriptor, "wb") as file:
                file.write(self.me.to_bytes())
                file.flush()
                os.fsync(descriptor)
            self._creating = False
            return None

    def mark(self, found: Found) -> Any:
        """See LockFile."""
        seen = _read(self.path)
        return None if seen is None else seen[:2]

    def remove(self, found: Found) -> None:
        """See LockFile."""
        if self.mark(found) != found.mark:
            return
        aside = self.folder / f"{PREFIX}{self.me.token}.broken"
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return
        seen = _read(aside)
        if seen is not None and seen[:2] != found.mark:  # another one broke it first, and this is its lock
            with suppress(OSError):  # a third one holds it by now
                os.link(aside, self.path)
        aside.unlink(missing_ok=True)
        if found.holder is not None:
            self.me.broke.append(found.holder.token)

    def beat(self) -> bool:
        """See LockFile."""
        try:
            descriptor = os.open(self.path, os.O_RDWR)  # opened anew: NFS then asks the server
        except (FileNotFoundError, NotADirectoryError):
            return False
        with os.fdopen(descriptor, "rb") as file:
            if not self._is_mine(file.read()):
                return False
            os.utime(descriptor)
        return True

    def release(self) -> None:
        """See LockFile; folders that were made for it go too, if nothing else came into them."""
        seen = _read(self.path)
        if seen is not None and (self._is_mine(seen[0]) or (self._creating and Holder.from_bytes(seen[0]) is None)):
            self.path.unlink(missing_ok=True)
        for path in self._made:
            try:
                path.rmdir()
            except OSError:
                return

    def _is_mine(self, content: bytes) -> bool:
        holder = Holder.from_bytes(content)
        return holder is not None and holder.token == self.me.token

    def _look(self) -> Found | None:
        seen = _read(self.path)
        if seen is None:
            return None
        probe = self.folder / f"{PREFIX}{self.me.token}.probe"
        probe.write_bytes(b"")
        now = probe.stat().st_mtime  # of the storage's clock, as the lock's
        probe.unlink(missing_ok=True)
        return Found(NAME, Holder.from_bytes(seen[0]), seen[:2], now - seen[2])


def _read(path: Path) -> tuple[bytes, int, float] | None:
    """Content and time of change of a file, as the server has them; None if there is none."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            return file.read(), status.st_mtime_ns, status.st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return None


class StoreLock:
    """On an object store, or on what else is not mounted."""

    def __init__(self, storage: Storage, me: Holder) -> None:
        self.storage, self.me = storage, me
        self.name = f"{PREFIX}{me.token}{SUFFIX}"

    def take(self) -> Found | None:
        """See LockFile."""
        self._put(held=False)
        for _ in range(LOOKS):
            others = self._others()
            if not others:
                self._put(held=True)
                return None
            if any(one.holder is None or one.holder.held or one.holder.token < self.me.token for one in others):
                break
            time.sleep(LOOK_SECONDS)
        self.storage.remove(self.name)
        return min(others, key=lambda one: one.holder is not None and not one.holder.held)

    def mark(self, found: Found) -> Any:
        """See LockFile."""
        try:
            return self.storage.get(found.name)
        except FileNotFoundError:
            return None

    def remove(self, found: Found) -> None:
        """See LockFile."""
        if self.mark(found) == found.mark:
            self.storage.remove(found.name)
            if found.holder is not None:
                self.me.broke.append(found.holder.token)

    def beat(self) -> bool:
        """See LockFile."""
        if self.storage.size(self.name) is None:
            return False
        if any(one.holder is not None and self.me.token in one.holder.broke for one in self._others()):
            self.storage.remove(self.name)
            return False
        self.me = replace(self.me, beat=self.me.beat + 1)
        self._put(held=True)
        return True

    def release(self) -> None:
        """See LockFile."""
        self.storage.remove(self.name)

    def _put(self, held: bool) -> None:
        self.me = replace(self.me, held=held)
        self.storage.put(self.name, self.me.to_bytes())

    def _others(self) -> list[Found]:
        _forget_listings(self.storage.filesystem)
        selector = fs.FileSelector(self.storage.root, allow_not_found=True)
        infos = {info.base_name: info for info in self.storage.filesystem.get_file_info(selector)}
        now = infos[self.name].mtime_ns if self.name in infos else None
        found = []
        for name, info in infos.items():
            if name == self.name or not (name.startswith(PREFIX) and name.endswith(SUFFIX)):
                continue
            try:
                content = self.storage.get(name)
            except FileNotFoundError:
                continue
            age = (now - info.mtime_ns) / 1e9 if now is not None and info.mtime_ns is not None else None
            found.append(Found(name, Holder.from_bytes(content), content, age))
        return found


def _forget_listings(filesystem: fs.FileSystem) -> None:
    """fsspec's file systems may keep listings."""
    handler = filesystem.handler if isinstance(filesystem, fs.PyFileSystem) else None
    if isinstance(handler, fs.FSSpecHandler):
        handler.fs.invalidate_cache()


ERRORS = (OSError, pa.ArrowException)  # of storage that fails
