"""Windows that are folders or files. In: data.windows of a config; out: which there are now, in time order, and the Source of each.

Only names, sizes and times are listed: the files of a window are opened when its turn has come.
"""

import time
from collections.abc import Callable, Sequence
from datetime import datetime

from pyarrow import fs

from interformer_rec.config.windows import WindowsConfig
from interformer_rec.data.files.locate import Listing, Located, list_all
from interformer_rec.data.files.source import Source, open_files
from interformer_rec.data.windows.window import Window, order_of, sizes_of
from interformer_rec.errors import InputError
from interformer_rec.redaction import redact

MOST_LEVELS = 100  # of folders


class Partitions:
    """`by: folder` and `by: file`; on one rank."""

    def __init__(self, options: WindowsConfig, max_decoded_bytes: int | None = None) -> None:
        self._options, self._max = options, max_decoded_bytes
        self._listing: Listing | None = None

    def find(self) -> list[Window]:
        """The windows that are there now, whole or not. Raises InputError."""
        self._listing = listing = list_all(self._options.path)
        base = listing.base.rstrip("/") + "/"
        found: dict[str, list[fs.FileInfo]] = {}
        markers: set[str] = set()
        if self._options.by == "folder":
            for path in listing.others:
                folder, _, name = path.removeprefix(base).rpartition("/")
                if (
                    name == self._options.marker
                    and folder
                    and folder.count("/") < (self._options.levels or MOST_LEVELS)
                ):
                    markers.add(folder)
        if not listing.glob:
            found = {name: [] for name in markers}  # a folder with its marker alone is an empty window
        for info in listing.data:
            below = info.path.removeprefix(base)
            name = below if self._options.by == "file" else self._folder(below)
            if not name:
                raise InputError(
                    f"data.windows are folders below {redact(self._options.path)!r}, and {info.path!r} lies in none: move it, name the "
                    "folders with a glob, or set data.windows.by: file"
                )
            found.setdefault(name, []).append(info)
        folders = {name: infos for name, infos in found.items() if infos or not any(map(_below(name), found))}
        return [self._window(name, folders[name], base, name in markers) for name in sorted(folders, key=order_of)]

    def open(self, windows: Sequence[Window]) -> Source | None:
        """The rows of windows that were found last, as one data set; None if they have no file."""
        files = tuple(sorted(file for window in windows for file in window.files))
        if not files:
            return None
        assert self._listing is not None
        located = Located(self._listing.filesystem, files, self._listing.base)
        return open_files(self._options.path, located, self._max)

    def _folder(self, below: str) -> str:
        """The window that a file is of, by its path below the base; "" for a file in the base itself."""
        return "/".join(below.split("/")[:-1][: self._options.levels])

    def _window(self, name: str, infos: list[fs.FileInfo], base: str, marked: bool) -> Window:
        times = [stamp for info in infos if (stamp := stamp_of(info)) is not None]
        modified = max(times) if times and len(times) == len(infos) else None
        return Window(
            name,
            tuple(info.path for info in infos),
            sizes_of((info.path.removeprefix(base), info.size) for info in infos),
            modified,
            self._unfinished(infos, modified, marked),
        )

    def _unfinished(self, infos: list[fs.FileInfo], modified: float | None, marked: bool) -> str | None:
        marker, age = self._options.marker, self._options.min_age
        if marker is not None and not marked:
            return f"it has no {marker} (data.windows.marker)"
        if age is None or not infos:
            return None
        if modified is None:
            raise InputError(
                f"the store of {redact(self._options.path)!r} does not say when files were written, which data.windows.min_age needs: let "
                "the writer leave a marker, and name it in data.windows.marker"
            )
        if time.time() - modified < age:
            return f"its newest file was written less than {age:g} seconds ago (data.windows.min_age)"
        return None


def _below(folder: str) -> Callable[[str], bool]:
    """Whether a name is of a folder inside."""
    return lambda name: name.startswith(f"{folder}/")


def stamp_of(info: fs.FileInfo) -> float | None:
    """When a file was written, in seconds since 1970; None where the store does not say."""
    written = info.mtime
    return written.timestamp() if isinstance(written, datetime) else None
