"""A folder on any file system: checkpoints, run folders, outputs.

In: a path or URI; out: files written, ranges read, folders listed and removed.

Local files are flushed to the disk. An error that may pass (a timeout, a reset, an overloaded store) is tried again; one that
will not (a full disk, a missing permission) is raised at once.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, TypeVar

import pyarrow as pa
from pyarrow import fs

from interformer_rec.errors import InputError
from interformer_rec.files import refuse_link_out, whole
from interformer_rec.filesystem import open_filesystem
from interformer_rec.redaction import redact

T = TypeVar("T")
# type_name of pyarrow's file systems, protocols of fsspec's
OBJECT_STORES = {"s3", "s3a", "gcs", "gs", "abfs", "abfss", "az", "adl", "oci", "oss", "cos", "obs", "r2"}
PAUSES = (1.0, 2.0, 4.0)  # seconds before the second, third and fourth attempt
LASTING = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.ENAMETOOLONG,
    errno.ELOOP,
}


class Sink(Protocol):
    """A file being written."""

    def write(self, content: memoryview | bytes, /) -> object:
        """Append bytes."""


def patiently(work: Callable[[], T]) -> T:
    """Do it; after an error that may pass, do it again, `PAUSES` apart. The last error is raised."""
    for pause in PAUSES:
        try:
            return work()
        # pyarrow's and fsspec's errors of remote stores are OSErrors too, mostly without errno
        except OSError as error:
            if error.errno in LASTING or isinstance(error, FileNotFoundError):  # fsspec's has no errno
                raise
        time.sleep(pause)
    return work()


@dataclass(frozen=True)
class Storage:
    """A folder; it need not exist. `location` is what the user reads in messages, without credentials."""

    location: str
    filesystem: fs.FileSystem
    root: str

    @classmethod
    def open(cls, location: str | os.PathLike[str]) -> Storage:
        """Raises InputError if the scheme is unknown or the store cannot be named so."""
        try:
            return cls(redact(str(location)), *open_filesystem(str(location)))
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"cannot reach {str(location)!r}: {error}") from None

    @property
    def local(self) -> Path | None:
        """The folder on this machine's file system; None on another store."""
        return Path(self.root) if isinstance(self.filesystem, fs.LocalFileSystem) else None

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.root.rstrip("/").rpartition("/")[2]

    def folder(self, name: str) -> Storage:
        """A folder inside, or with ".." the one above."""
        address, mark, query = self.location.partition("?") if "://" in self.location else (self.location, "", "")
        if name == "..":
            above, slash, _ = address.rstrip("/").rpartition("/")
            return Storage((above or slash or ".") + mark + query, self.filesystem, self._above(self.root))
        inside = name if address == "." else f"{address.rstrip('/')}/{name}"
        return Storage(inside + mark + query, self.filesystem, self._path(name))

    def refuse_link_out(self, name: str, source: str) -> None:
        """Raise DamagedError if `name`, which stands in the file `source`, is a link out of this folder; stores have no links."""
        if self.local is not None:
            refuse_link_out(self.local, name, source)

    def put(self, name: str, content: bytes) -> None:
        """Write a small file, whole or not at all, over what was there."""
        # object stores show an object when it is whole; on other file systems a rename may not replace what is there
        opened = self.stream if self.local is not None else self.create

        def write() -> None:
            with opened(name) as file:
                file.write(content)

        patiently(write)

    def get(self, name: str) -> bytes:
        """A small file's content. Raises FileNotFoundError."""

        def read() -> bytes:
            with self.filesystem.open_input_file(self._path(name)) as file:
                return file.read()

        return patiently(read)

    def read(self, name: str, start: int, length: int) -> bytes:
        """Bytes start .. start+length-1 of a file, fewer at its end."""

        def read() -> bytes:
            with self.filesystem.open_input_file(self._path(name)) as file:
                return file.read_at(length, start)

        return patiently(read)

    @contextmanager
    def create(self, name: str) -> Iterator[IO[bytes] | pa.NativeFile]:
        """Write a file from its beginning; on a local disk flushed when the block ends. Not retried: the caller repeats."""
        self.filesystem.create_dir(self._above(self._path(name)), recursive=True)
        if self.local is not None:
            with (self.local / name).open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            return
        with self.filesystem.open_output_stream(self._path(name)) as stream:
            yield stream

    @contextmanager
    def stream(self, name: str) -> Iterator[IO[bytes] | pa.NativeFile]:
        """Write a large file, whole or not at all: it has its name once the block has ended, and not where that ended in an error.

        Not retried. What a process that was killed leaves is `.NAME.part` on a file system, nothing in an object store.
        """
        if self.local is not None:
            path = self.local / name
            self.filesystem.create_dir(self._above(self._path(name)), recursive=True)
            with whole(path) as file:
                yield file
            _flush_folder(path.parent)
            return
        above, slash, last = name.rpartition("/")
        part = name if self._shows_whole_files else f"{above}{slash}.{last}.part"
        try:
            with self.create(part) as file:
                yield file
        except BaseException:
            self.remove(part)
            raise
        if part != name:
            self.filesystem.move(self._path(part), self._path(name))

    @property
    def _shows_whole_files(self) -> bool:
        """Whether a file is seen once it is closed, as in an object store, where a rename would be a copy."""
        kind = self.filesystem.type_name
        return kind in OBJECT_STORES or kind.removeprefix("py::fsspec+") in OBJECT_STORES

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if there is none."""
        info = patiently(lambda: self.filesystem.get_file_info(self._path(name)))
        return info.size if info.type == fs.FileType.File else None

    def names(self) -> list[str]:
        """Folders and files inside, sorted; [] if there is no such folder."""
        selector = fs.FileSelector(self.root, allow_not_found=True)
        try:
            return sorted(info.base_name for info in patiently(lambda: self.filesystem.get_file_info(selector)))
        except NotADirectoryError:
            return []

    def remove(self, name: str) -> None:
        """Delete a file or a folder with all that is inside; what is not there is no error."""

        def delete() -> None:
            # Of a link the link, also where it leads nowhere.
            if self.local is not None and (self.local / name).is_symlink():
                (self.local / name).unlink()
                return
            info = self.filesystem.get_file_info(self._path(name))
            if info.type == fs.FileType.Directory:
                self.filesystem.delete_dir(info.path)
            elif info.type == fs.FileType.File:
                self.filesystem.delete_file(info.path)

        patiently(delete)

    def _path(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}"

    @staticmethod
    def _above(path: str) -> str:
        return path.rstrip("/").rpartition("/")[0] or "/"


def write_file(location: str, content: bytes | str) -> None:
    """Write an output that the user named, whole or not at all: a path or URI, as for inputs. Text becomes UTF-8.

    On a file system its folder has to be there, as a mistyped path would make others; a link is followed. Raises InputError that names the
    place and the reason.
    """
    if "://" not in location:
        location = os.path.realpath(os.path.expanduser(location))
    data = content.encode() if isinstance(content, str) else content
    try:
        file = Storage.open(location)
        if file.local is None:
            file.folder("..").put(file.name, data)
        elif not file.local.parent.exists():
            raise InputError(
                f"cannot write {location!r}: there is no folder {str(file.local.parent)!r}. Correct the path, or make the folder"
            )
        elif file.local.is_dir():
            raise InputError(f"cannot write {location!r}: it is a folder; name a file in it")
        elif file.local.exists() and not file.local.is_file():  # /dev/stdout, a pipe: nothing to replace
            file.local.write_bytes(data)
        else:
            file.folder("..").put(file.name, data)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"cannot write {location!r}: {getattr(error, 'strerror', None) or error}") from None


def read_file(location: str, what: str) -> bytes:
    """The content of an input that the user named: a path or URI. Raises InputError that says `what` it is, the place and the reason."""
    if "://" not in location:
        location = os.path.realpath(os.path.expanduser(location))
    try:
        file = Storage.open(location)
        if file.local is not None:
            return file.local.read_bytes()
        return file.folder("..").get(file.name)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"cannot read {what} {location!r}: {getattr(error, 'strerror', None) or error}") from None


def _flush_folder(path: Path) -> None:
    """A rename is on the disk when its folder is."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
