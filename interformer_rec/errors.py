"""The exceptions that mean "the user can fix this": every door turns them into a paragraph and exit code 2."""

from __future__ import annotations

from interformer_rec.redaction import redact


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
