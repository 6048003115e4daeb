"""An error of a job is printed once, by the rank that has it. In: this rank's error; out: it is printed or not, and the exit code.

The ranks agree through the job's store (rendezvous.py). Where it cannot be reached in time, this rank prints: twice is better than
never. On every other host one rank prints the error too, with the rank's name, as each host may have a terminal of its own.
"""

import gc
import hashlib
import os
import socket
import time
import traceback
from collections.abc import Callable
from typing import TypeVar

from interformer_rec.distributed.job.failure import Failure, OtherRankFailed
from interformer_rec.distributed.job.rendezvous import Meeting, last_meeting, reach, within
from interformer_rec.errors import InputError

REACH_SECONDS = 10.0  # for rank 0 to host its store, where an error came before the start
FAILURE_SECONDS = 1.0  # for the error of the rank whose connection broke to arrive
PRINT_SECONDS = 5.0  # for the rank that has the error to print it
LINGER_SECONDS = 10.0  # that rank 0 keeps its store for ranks that are still to come
PAUSE = 0.05
T = TypeVar("T")


def print_once(error: BaseException, text: str, say: Callable[[str], None]) -> tuple[str, int]:
    """`say(text)` unless another rank does. Returns the text for torchrun's summary and the exit code."""
    code = 2 if isinstance(error, InputError) else 1
    meeting = _meeting()
    if meeting is None or not meeting.is_member:
        say(text)
        return text, code
    try:
        cause = _cause(error, meeting)
        if cause is None:
            _print_own(error, text, code, say, meeting)
            return text, code
        followed = f"interformer: rank {cause.rank} of {meeting.world_size} on {cause.host} ended the job: {cause.text}"
        _follow(cause, followed, say, meeting)
        return followed, cause.code
    finally:
        _disconnect(error)
        _leave(meeting)


def _meeting() -> Meeting | None:
    """The job's store; reached now if the error came before that was tried."""
    tried, meeting = last_meeting()
    if tried:
        return meeting
    try:
        rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        return reach(rank, world_size, REACH_SECONDS, quiet=True)
    except (InputError, KeyError, ValueError, RuntimeError):
        return None


def _cause(error: BaseException, meeting: Meeting) -> Failure | None:
    """Another rank's failure that this error follows; None if it is this rank's own."""
    if isinstance(error, OtherRankFailed):
        return error.failure
    own = Failure.of(error, meeting.rank)
    if own is not None:
        return None
    found = _until(FAILURE_SECONDS, lambda: Failure.read(meeting.store))
    if found is None and isinstance(error, InputError) and error.rank is not None:
        found = Failure(error.rank, socket.gethostname(), 0, 2, str(error))
    return found if found is not None and not found.is_own else None


def _print_own(error: BaseException, text: str, code: int, say: Callable[[str], None], meeting: Meeting) -> None:
    """Print unless a rank with the same error was first: all ranks may find one at the same time."""
    digest = hashlib.sha256(str(error).encode(errors="replace")).hexdigest()
    meeting.post(error)
    first = within(PRINT_SECONDS, lambda: meeting.store.add(f"said/{digest}", 1) == 1)
    if first is False and _until(PRINT_SECONDS, lambda: meeting.store.check([f"printed/{digest}"])):
        return
    say(text)
    within(PRINT_SECONDS, lambda: meeting.store.set(f"printed/{digest}", "yes"))
    within(PRINT_SECONDS, lambda: meeting.store.set("printed", "yes"))


def _follow(cause: Failure, text: str, say: Callable[[str], None], meeting: Meeting) -> None:
    """Wait until the rank that has it has printed it: this rank's end may make torchrun end that one."""
    printed = _until(PRINT_SECONDS, lambda: meeting.store.check(["printed"]))
    here = socket.gethostname()
    elsewhere = here != cause.host and within(PRINT_SECONDS, lambda: meeting.store.add(f"said on {here}", 1) == 1)
    if not printed or elsewhere:
        say(text)


def _disconnect(error: BaseException) -> None:
    """Let go of the model and with it of gloo's connections: a rank that waits in a collective for this one then sees that it is gone.

    The frames of the error hold them, and destroy_process_group closes nothing that is held.
    """
    chain: BaseException | None = error
    while chain is not None:
        traceback.clear_frames(chain.__traceback__)
        chain.__traceback__ = None
        chain = chain.__cause__ or chain.__context__
    gc.collect()


def _leave(meeting: Meeting) -> None:
    """The rank that hosts the store is the last to leave, or ends after LINGER_SECONDS."""
    within(PRINT_SECONDS, lambda: meeting.store.add("left", 1))
    if meeting.hosts_store:
        _until(LINGER_SECONDS, lambda: meeting.store.add("left", 0) >= meeting.world_size)


def _until(seconds: float, look: Callable[[], T | None]) -> T | None:
    """The first true value of `look`, asked again and again; None if there is none in time."""

    def ask() -> T | None:
        deadline = time.monotonic() + seconds
        while True:
            if found := look():
                return found
            if time.monotonic() > deadline:
                return None
            time.sleep(PAUSE)

    return within(seconds + 1, ask)
