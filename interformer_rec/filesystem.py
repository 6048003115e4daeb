"""Paths and URIs -> a pyarrow file system and a path on it. In: what the user wrote; out: where to read and write.

Schemes pyarrow knows (s3, gs, hdfs, file, ...) go through pyarrow.fs, so `s3://bucket/key?endpoint_override=host:port&scheme=http`
and AWS_ENDPOINT_URL mean what Arrow's documentation says; every other scheme goes through fsspec.
"""

import os
import re
from urllib.parse import quote

import fsspec
import pyarrow as pa
from pyarrow import fs

from interformer_rec.errors import InputError
from interformer_rec.redaction import hide_credentials

RETRY_SECONDS = 30
_NOT_IN_A_URI = re.compile(r"""[^!-~]|["<>\\^`{|}]|%(?![0-9A-Fa-f]{2})""")


def open_filesystem(location: str) -> tuple[fs.FileSystem, str]:
    """The file system of a path or URI, and the path on it.

    Raises InputError for an unknown scheme or one whose package is missing, OSError or pa.ArrowException for the rest.
    """
    if "://" not in location:
        return fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(location))
    hide_credentials(location)
    try:
        return fs.FileSystem.from_uri(_with_patience(_encoded(location)))
    except pa.ArrowNotImplementedError:
        pass  # this build of pyarrow lacks the scheme
    except pa.ArrowInvalid as error:
        if "nrecognized filesystem type" not in str(error):
            raise
    try:
        filesystem, root = fsspec.core.url_to_fs(location)
    except (ValueError, ImportError) as error:
        raise InputError(f"cannot open {location!r}: {error}") from None
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), root


def _encoded(location: str) -> str:
    """What a URI may not hold as it is (spaces, letters beyond ASCII, a lone %), the way Arrow wants it; it decodes that again."""
    return _NOT_IN_A_URI.sub(lambda found: quote(found[0], safe=""), location)


def _with_patience(location: str) -> str:
    """Arrow tries a request to Google's store for 15 minutes unless the URI says for how long: a wrong bucket looks like a hang."""
    if not location.startswith(("gs://", "gcs://")) or "retry_limit_seconds=" in location:
        return location
    return f"{location}{'&' if '?' in location else '?'}retry_limit_seconds={RETRY_SECONDS}"
