"""Do training files stand among those a model is judged by, or written ones among those that are read? In: paths; out: nothing, or an
InputError.

A file counts as the same however it is named: by a glob, a folder, a link, a relative path or a file:// URI.
"""

import os
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qs, urlsplit

from pyarrow import fs

from interformer_rec.data.files.locate import is_local, locate, would_find
from interformer_rec.errors import InputError
from interformer_rec.storage import Storage

Identity = tuple[str, ...]


def refuse_overlap(train: str | None, others: dict[str, str | None]) -> None:
    """Raises InputError if a file of data.train is also one of `others` (config key -> path): its rows would be memorised.

    Only lists files. Validation and test files may be the same.
    """
    paths = {key: path for key, path in others.items() if path is not None}
    if train is None or not paths:
        return
    trained = _identities(train)
    for key, path in paths.items():
        both = [(trained[identity], file) for identity, file in _identities(path).items() if identity in trained]
        if both:
            mine, other = both[0]
            same = "" if mine == other else f", which data.train reads as {mine!r}"
            more = f" and {len(both) - 1} more" if len(both) > 1 else ""
            raise InputError(
                f"{key} has a file of data.train: {other!r}{same}{more}. A model that was trained on these rows scores them too well. "
                f"Name other files in {key}, or leave them out of data.train (a glob or a folder of its own)"
            )


def refuse_within_windows(windows: str, others: dict[str, str | None]) -> None:
    """Raises InputError if a file of `others` (config key -> path) lies where data.windows finds its rows, now or some day."""
    for key, path in others.items():
        if path is None:
            continue
        found = locate(path)
        if (file := would_find(windows, found.filesystem, found.files)) is not None:
            raise InputError(
                f"{key} has a file that lies among the windows of data.windows.path ({windows!r}): {file!r}. A model that was trained on "
                f"these rows scores them too well. Name other files in {key}, or name the windows so that these are left out (a glob)"
            )


def refuse_written(key: str, place: Storage, names: Iterable[str], data: Mapping[str, str | None]) -> None:
    """Raises InputError if a file that is going to be written would be read as rows of `data` (what the user calls it -> path).

    `names`: of the Parquet files below `place`, which the user has named with `key`; "" for `place` itself. Lists nothing.
    """
    files = [f"{place.root.rstrip('/')}/{name}".rstrip("/") for name in names]
    for read, path in data.items():
        file = would_find(path, place.filesystem, files) if path is not None else None
        if file is not None:
            raise InputError(
                f"{key} {place.location!r} lies among the files of {read} ({path!r}): {file!r}, written there, would be read as rows of "
                f"{read} from then on. Name another place for {key}, or name the files of {read} so that this one is left out (a glob, "
                "or a folder of their own)"
            )


def _identities(path: str) -> dict[Identity, str]:
    """What a file is, whatever its name -> its name."""
    found = locate(path)
    return {_identity(found.filesystem, file, path): file for file in found.files}


def _identity(filesystem: fs.FileSystem, file: str, path: str) -> Identity:
    if is_local(filesystem):
        found = os.stat(file)  # of what a link points to; a second hard link has the same numbers
        return "local", str(found.st_dev), str(found.st_ino)
    address, name = urlsplit(path), os.path.normpath(file)
    endpoint = parse_qs(address.query).get("endpoint_override", [""])[0]  # the store behind an s3:// URI
    host = address.hostname or ""
    host = "" if host in name.split("/") else host  # a bucket is in the name already
    return filesystem.type_name, endpoint, host, name
