"""Do training files stand among those a model is judged by? In: the data paths of a config; out: nothing, or an InputError.

A file counts as the same however it is named: by a glob, a folder, a link, a relative path or a file:// URI.
"""

from __future__ import annotations

import os
from urllib.parse import parse_qs, urlsplit

from pyarrow import fs

from interformer_rec.data.files.locate import locate
from interformer_rec.errors import InputError

Identity = tuple[str, ...]


def refuse_overlap(train: str | None, others: dict[str, str | None]) -> None:
    """Raises InputError if a file of data.train is also one of `others` (config key -> path): its rows would be learned by heart.

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


def _identities(path: str) -> dict[Identity, str]:
    """What a file is, whatever its name -> its name."""
    found = locate(path)
    return {_identity(found.filesystem, file, path): file for file in found.files}


def _identity(filesystem: fs.FileSystem, file: str, path: str) -> Identity:
    if isinstance(filesystem, fs.LocalFileSystem) or "'local'" in filesystem.type_name:  # fsspec's local://
        found = os.stat(file)  # of what a link points to; a second hard link has the same numbers
        return "local", str(found.st_dev), str(found.st_ino)
    address, name = urlsplit(path), os.path.normpath(file)
    endpoint = parse_qs(address.query).get("endpoint_override", [""])[0]  # the store behind an s3:// URI
    host = address.hostname or ""
    return (
        filesystem.type_name,
        endpoint,
        "" if host in name.split("/") else host,
        name,
    )  # a bucket is in the name already
