"""A run's own files that cannot be written. In: an OSError in a block that writes; out: one sentence with the file and the reason."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


class CannotWrite(RuntimeError):
    """A file of the run folder could not be written: a full disk, a quota, storage that was unmounted."""


@contextmanager
def writing(place: str | os.PathLike[str]) -> Iterator[None]:
    """Raise CannotWrite for an OSError inside; `place` is named where the error does not say the file."""
    try:
        yield
    except OSError as error:
        file = error.filename if isinstance(error.filename, str) else str(place)
        raise CannotWrite(
            f"cannot write {file!r}: {error.strerror or error}. Make room there, or mount it again, and start the job with --resume: "
            f"it goes on from the newest checkpoint"
        ) from error
