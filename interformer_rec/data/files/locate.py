"""Paths and URIs -> a file system and sorted file names. In: what the user wrote in `data.train`; out: files that exist, or would be found.

interformer_rec/filesystem.py says which library serves which scheme.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pyarrow as pa
from pyarrow import fs

from interformer_rec.data.files.known_sets import how_to_make
from interformer_rec.errors import InputError
from interformer_rec.filesystem import open_filesystem

SUFFIXES = (".parquet", ".parq", ".pq")
_WILD = re.compile(r"[*?\[]")
_WILD_URI = re.compile(r"[*\[]")  # in a URI a ? begins the query


class Unreachable(InputError):
    """A store that does not answer now; it may tomorrow."""


class Located(NamedTuple):
    """Files of one data set, sorted by name."""

    filesystem: fs.FileSystem
    files: tuple[str, ...]
    base: str  # the folder that all of them are below


def locate(path: str) -> Located:
    """Find the Parquet files of a local path, glob, directory or URI.

    In a directory (searched with its subdirectories) files ending in .parquet, .parq or .pq count; names that begin with `_` or `.`
    are left out, as Spark and Hive do, but for a partition's folder (`_day=5`). A glob may hold *, ?, [...] and ** (a URI's glob: *,
    [...] and **).
    Raises InputError: nothing there, a directory or glob without files, an unknown scheme, an unreachable store.
    """
    with _reaching(path):
        target = _target(path)
        if target.wild is not None:
            return _expand(target.filesystem, target.name, target.wild, path)
        return _list(target.filesystem, target.name, path)


class Listing(NamedTuple):
    """What lies in a place now."""

    filesystem: fs.FileSystem
    base: str  # as of Located
    data: tuple[fs.FileInfo, ...]  # the files that `locate` finds, sorted by path; maybe none
    others: tuple[str, ...]  # other files, in folders that are not hidden
    glob: bool = False  # it leaves out folders whose files do not match


def list_all(path: str) -> Listing:
    """What `locate` finds, with sizes and times, and what lies beside it, such as _SUCCESS. One request for a store's page of names.

    Raises InputError: nothing there, an unknown scheme, an unreachable store.
    """
    with _reaching(path):
        filesystem, name, wild = _target(path)
        root = (_fixed(name, wild) or "/") if wild is not None else name
        info = filesystem.get_file_info(root)
        if info.type == fs.FileType.NotFound:
            raise InputError(f"there is no file or directory {path!r}{how_to_make(path)}")
        if info.type != fs.FileType.Directory:
            return Listing(filesystem, root.rpartition("/")[0], (info,), ())
        base = root.rstrip("/") + "/"
        inside = [item for item in filesystem.get_file_info(fs.FileSelector(root, recursive=True)) if item.is_file]
    matches = re.compile(_regex(name)) if wild is not None else None
    data: list[fs.FileInfo] = []
    others: list[str] = []
    for item in sorted(inside, key=lambda item: item.path):
        below = item.path.removeprefix(base)
        if matches.fullmatch(item.path) if matches else below.endswith(SUFFIXES) and not _hidden(below):
            data.append(item)
        elif not _hidden(below.rpartition("/")[0] + "/"):
            others.append(item.path)
    return Listing(filesystem, root, tuple(data), tuple(others), wild is not None)


def would_find(path: str, filesystem: fs.FileSystem, files: Iterable[str]) -> str | None:
    """The first of `files`, which need not exist yet, that `locate(path)` would find once they are there. Lists nothing."""
    with _reaching(path):
        target = _target(path)
    name, here = target.name, is_local(filesystem) and is_local(target.filesystem)
    if not here and not filesystem.equals(target.filesystem):
        return None
    if here and target.wild is None and os.path.isfile(name):  # nothing lies below it
        return None
    if here:  # as links lead
        fixed = _fixed(name, target.wild) if target.wild is not None else name
        name = os.path.realpath(fixed or "/").rstrip("/") + name[len(fixed) :]
    matches, base = re.compile(_regex(name)), name.rstrip("/") + "/"
    for file in files:
        found = os.path.realpath(file) if here else file
        inside = found.startswith(base) and found.endswith(SUFFIXES) and not _hidden(found.removeprefix(base))
        if matches.fullmatch(found) if target.wild is not None else inside:
            return file
    return None


def is_local(filesystem: fs.FileSystem) -> bool:
    """Whether its files are this machine's."""
    return isinstance(filesystem, fs.LocalFileSystem) or "'local'" in filesystem.type_name  # fsspec's local://


@contextmanager
def _reaching(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise Unreachable(f"cannot reach {path!r}: {error}") from None


class _Target(NamedTuple):
    """What a path names, before anything is listed."""

    filesystem: fs.FileSystem
    name: str  # a file, a folder or a glob
    wild: re.Pattern[str] | None  # of a glob: what its wildcards begin with


def _target(path: str) -> _Target:
    if not path:
        raise InputError("the data path is empty; give a file, a glob, a directory or a URI")
    if "://" not in path:
        path = os.path.expanduser(path)
        wild = _WILD if _WILD.search(path) and not os.path.exists(path) else None
        return _Target(fs.LocalFileSystem(), os.path.abspath(path), wild)
    address, question, query = path.partition("?")
    found = _WILD_URI.search(address)
    fixed = address[: address.rfind("/", 0, found.start()) + 1] if found else address
    filesystem, root = open_filesystem(fixed + question + query)
    if not found:
        return _Target(filesystem, root, None)
    return _Target(filesystem, root.rstrip("/") + "/" + address[len(fixed) :], _WILD_URI)


def _list(filesystem: fs.FileSystem, root: str, shown: str) -> Located:
    info = filesystem.get_file_info(root)
    if info.type == fs.FileType.NotFound:
        raise InputError(f"there is no file or directory {shown!r}{how_to_make(shown)}")
    if info.type != fs.FileType.Directory:
        return Located(filesystem, (root,), root.rpartition("/")[0])
    base = root.rstrip("/") + "/"
    inside = [item.path for item in filesystem.get_file_info(fs.FileSelector(root, recursive=True)) if item.is_file]
    files = sorted(name for name in inside if name.endswith(SUFFIXES) and not _hidden(name.removeprefix(base)))
    if not files:
        others = f"; it holds {len(inside)} other file(s), such as {min(inside)!r}" if inside else "; it is empty"
        raise InputError(f"directory {shown!r} has no file that ends in {', '.join(SUFFIXES)}{others}")
    return Located(filesystem, tuple(files), root)


def _expand(filesystem: fs.FileSystem, pattern: str, wild: re.Pattern[str], shown: str) -> Located:
    """The files that match a glob; only the folder above the first wildcard is listed."""
    fixed = _fixed(pattern, wild)
    root = fixed or "/"
    selector = fs.FileSelector(root, allow_not_found=True, recursive="/" in pattern[len(fixed) + 1 :])
    matches = re.compile(_regex(pattern))
    files = sorted(
        info.path for info in filesystem.get_file_info(selector) if info.is_file and matches.fullmatch(info.path)
    )
    if not files:
        raise InputError(f"no file matches {shown!r} (looked in {root!r})")
    return Located(filesystem, tuple(files), root)


def _fixed(pattern: str, wild: re.Pattern[str]) -> str:
    """The folder above the first wildcard; "" for the root."""
    found = wild.search(pattern)
    assert found is not None
    return pattern[: pattern.rfind("/", 0, found.start())]


def _regex(pattern: str) -> str:
    """A glob as a regular expression: * and ? stay inside a folder, ** crosses folders."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", pattern)
    special = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(
        special.get(p) or (re.sub(r"^\[!", "[^", p) if p.startswith("[") and len(p) > 2 else re.escape(p))
        for p in parts
    )


def _hidden(relative: str) -> bool:
    *folders, name = relative.split("/")
    return name.startswith(("_", ".")) or any(
        folder.startswith(".") or (folder.startswith("_") and "=" not in folder) for folder in folders
    )
