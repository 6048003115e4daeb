"""The exceptions that mean "the user can fix this", and any error as its reader sees it. In: an exception; out: one paragraph on stderr.

Every command turns an InputError into a paragraph and exit code 2.
"""

from __future__ import annotations

import io
import json
import os
import re
import resource
import sys
import time
from pathlib import Path

from interformer_rec.redaction import redact

_NO_MEMORY = re.compile(
    r"^(Arrow)?MemoryError\b|can(no|')t allocate memory|failed to map segment|bad_alloc|can't start new thread|^OutOfMemoryError\b",
    re.IGNORECASE,
)


class InputError(ValueError):
    """Bad input, config or environment from the user.

    The message is shown as it is, without a traceback, so it says what is wrong, where (file, key, row, value) and what
    to do about it. Anything that is our own mistake is an assert or another exception type. It holds no credential and no value that
    a config took from the environment for a path (redaction.py).
    `rank`: the rank of a job that found it and prints it, where that is known; the others end with it.
    """

    rank: int | None = None

    def __init__(self, message: object, *more: object) -> None:
        super().__init__(redact(str(message)), *more)

    def reworded(self, message: str) -> InputError:
        """The same error, its kind and its rank, with a message that says more."""
        found = DamagedError(message) if isinstance(self, DamagedError) else InputError(message)
        found.rank = self.rank
        return found


class DamagedError(InputError):
    """A file of a run or a checkpoint is not what was written."""


def paragraph(command: str, error: BaseException, debug: bool) -> str:
    """Which command, on which rank, what, and where to see more."""
    ranks = os.environ.get("WORLD_SIZE", "1")
    where = f" (rank {os.environ.get('RANK', '?')} of {ranks})" if ranks != "1" else ""
    if isinstance(error, InputError):
        return redact(f"interformer {command}{where}: {error}")
    # Not the user's doing as far as we know, so the type stays: it is what one searches for.
    hint = "" if debug else "\nRun it with --debug for the traceback."
    return redact(f"interformer {command}{where} failed: {type(error).__name__}: {error}{hint}")


def readable(error: BaseException) -> BaseException:
    """The error, or what it means: memory that ran out, or a path with characters that the locale's encoding of file names lacks."""
    if _NO_MEMORY.search(f"{type(error).__name__}: {error}"):
        return _no_memory(error)
    if not isinstance(error, UnicodeEncodeError):
        return error
    return InputError(
        f"a path cannot be written in the encoding of file names here, {sys.getfilesystemencoding()} ({error}): "
        "set LC_ALL=C.UTF-8 or PYTHONUTF8=1, or use another path"
    )


def _no_memory(error: BaseException) -> BaseException:
    """A limit that the user set is the user's to raise; without one the job is too large for the machine."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    said = next((line for line in str(error).splitlines()[::-1] if _NO_MEMORY.search(line)), "").strip()
    text = f"there was not enough memory{f' ({said[:200]})' if said else ''}. "
    if limit != resource.RLIM_INFINITY:
        return InputError(
            f"{text}A limit of {limit / 2**30:.1f} GiB of address space is set for this process (ulimit -v): raise it (ulimit -v "
            "unlimited); loading torch alone takes several GiB of it"
        )
    return MemoryError(
        f"{text}Smaller data.batch_size, data.eval_batch_size, data.shuffle_rows, data.prefetch or tables need less; `interformer plan` "
        "itemises the memory of a rank"
    )


def say(text: str) -> None:
    """On stderr, at once."""
    print(text, file=sys.stderr, flush=True)


def print_in_any_locale() -> None:
    """A name that the terminal's encoding lacks is printed as \\u1234; by default printing would end the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def write_torchruns_file(text: str) -> None:
    """Its summary of a job that failed then shows the message of the rank that failed first, of all hosts' ranks."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if file:
        content = {"message": text, "extraInfo": {"timestamp": str(int(time.time()))}}
        Path(file).write_text(json.dumps({"message": content}), encoding="utf-8")
