"""The exceptions that mean "the user can fix this": every door turns them into a paragraph and exit code 2."""


class InputError(ValueError):
    """Bad input, config or environment from the user.

    The message is shown as it is, without a traceback, so it says what is wrong, where (file, key, row, value) and what
    to do about it. Anything that is our own mistake is an assert or another exception type.
    """


class DamagedError(InputError):
    """A file of a run or a checkpoint is not what was written."""
