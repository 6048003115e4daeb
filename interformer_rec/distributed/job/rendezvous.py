"""Where the ranks of a job meet before they compute. In: torchrun's variables; out: a store that every rank has reached.

torch's own rendezvous waits in silence, for half an hour, and its errors are stack traces. Here each rank registers in the store
and waits until all have: after SAY_AFTER seconds it names the missing ones, after `seconds` it ends. A rank that fails leaves its
error in the store (failure.py), so that those that wait for it end at once.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch.distributed as dist

from interformer_rec.distributed.job.failure import Failure, OtherRankFailed
from interformer_rec.errors import InputError, say

SAY_AFTER = 10.0  # seconds in silence
POLL_SHORTEST, POLL_LONGEST = 0.05, 1.0
ANSWER_SECONDS = 15.0  # for a store that accepts a connection to answer, and for its rank 0 to register there
POST_SECONDS = 3.0  # for a store to take an error
STORE_TIMEOUT = timedelta(seconds=60)
T = TypeVar("T")
_starts = itertools.count()  # process groups of this process: the keys of one are not those of the next
_tries: list[Meeting | None] = []  # of this process: None where the store was not reached


@dataclass
class Meeting:
    """A job's store, seen by one rank. `hosts_store`: it is gone when this process is."""

    store: dist.Store
    raw: dist.TCPStore
    rank: int
    world_size: int
    hosts_store: bool
    place: str  # host:port, for messages
    is_member: bool = True

    def come(self) -> None:
        """Register. Raises InputError if another process has this rank."""
        me = f"process {os.getpid()} on {socket.gethostname()}"
        if self.store.add(f"here/{self.rank}", 1) > 1:
            self.is_member = not self.complete  # what this process has to say is nothing to a job that runs
            other = self.store.get(f"who/{self.rank}").decode()
            raise InputError(
                f"two processes have RANK={self.rank} of {self.world_size} at {self.place}: {other}, and {me}. Give each its own RANK, or "
                "another MASTER_PORT to each job"
            )
        self.store.set(f"who/{self.rank}", me)
        self.store.add("count", 1)

    def missing(self) -> list[int]:
        """Ranks that have not registered."""
        return [rank for rank in range(self.world_size) if not self.store.check([f"who/{rank}"])]

    @property
    def complete(self) -> bool:
        """Whether every rank has registered."""
        return self.store.add("count", 0) >= self.world_size

    def post(self, error: BaseException) -> None:
        """Leave this rank's error for the others, if it is an error of its own."""
        failure = Failure.of(error, self.rank)
        if failure is not None and self.is_member:
            within(POST_SECONDS, lambda: failure.post(self.store))  # the store may be what failed

    def raise_failure(self) -> None:
        """Raise what another rank has left here, if one has."""
        failure = Failure.read(self.store)
        if failure is not None and not failure.is_own:
            raise OtherRankFailed(failure)


def meet(rank: int, world_size: int, seconds: float) -> Meeting:
    """Reach the job's store and wait for every rank, `seconds` at most. Raises InputError, OtherRankFailed."""
    deadline = time.monotonic() + seconds
    _tries.append(None)
    meeting = reach(rank, world_size, seconds)
    _tries[-1] = meeting
    try:
        meeting.come()
        _wait_for_all(meeting, deadline, seconds)
    except InputError as error:
        meeting.post(error)
        raise
    return meeting


def _wait_for_all(meeting: Meeting, deadline: float, seconds: float) -> None:
    waits = Waits(f"rank {meeting.rank} of {meeting.world_size} ({socket.gethostname()})", seconds)
    while not meeting.complete:
        meeting.raise_failure()
        if waits.over(SAY_AFTER) and (missing := meeting.missing()) and set(range(meeting.rank)) <= set(missing):
            waits.say(f"for {_missing(meeting)}")  # the lowest rank that is there
        if time.monotonic() > deadline:
            raise InputError(
                f"{_missing(meeting)} did not start within {seconds:g} s (training.start_seconds). Start one process for each of the "
                f"WORLD_SIZE={meeting.world_size} ranks, all with MASTER_ADDR and MASTER_PORT of {meeting.place}"
            )
        waits.pause()
    meeting.raise_failure()


def last_meeting() -> tuple[bool, Meeting | None]:
    """Whether this process has tried to reach the job's store, and what came of it."""
    return bool(_tries), _tries[-1] if _tries else None


def reach(rank: int, world_size: int, seconds: float, quiet: bool = False) -> Meeting:
    """The job's store: torchrun's, or one that rank 0 hosts. Raises InputError, within `seconds`."""
    host, port = address()
    place = f"{host}:{port}"
    by_agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    hosts_store = rank == 0 and not by_agent
    if hosts_store:
        raw = _host(port)
    else:
        _await_listener(host, port, rank, seconds, "torchrun" if by_agent else "rank 0", quiet)
        raw = _connect(host, port)
    prefix = f"start {next(_starts)}, {world_size} ranks"
    if by_agent:
        # torch 2.13 keeps one store for all attempts of a job and sets no prefix (pytorch issue 135712): ranks that start again would
        # read the addresses of dead ones and fail or wait for ever. A store that rank 0 hosts is of one attempt; there a node that has
        # come back counts its attempts from 0, and would never meet the others.
        prefix = f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}, {prefix}"
    meeting = Meeting(dist.PrefixStore(prefix, raw), raw, rank, world_size, hosts_store, place)
    if rank and not by_agent:
        _check_job(meeting, min(seconds, ANSWER_SECONDS))
    return meeting


def address() -> tuple[str, int]:
    """MASTER_ADDR and MASTER_PORT. Raises InputError if one is missing or means nothing."""
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        raise InputError(
            f"WORLD_SIZE is {os.environ.get('WORLD_SIZE')}, but {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set: "
            "start with torchrun, or set them to rank 0's host and a free port of it"
        )
    host, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise InputError(
            f"MASTER_PORT is {port!r}; it must be a whole number from 1 to 65535, a free port of rank 0's host"
        )
    try:
        socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InputError(
            f"MASTER_ADDR is {host!r}, a host that is not known here ({error}): set it to rank 0's host"
        ) from None
    return host, int(port)


class Waits:
    """A wait that says once what it waits for."""

    def __init__(self, who: str, limit: float) -> None:
        self._who, self._limit, self._start = who, limit, time.monotonic()
        self._said, self._pause = False, POLL_SHORTEST

    def over(self, seconds: float) -> bool:
        """Whether it has lasted so long and nothing was said yet."""
        return not self._said and time.monotonic() - self._start > seconds

    def say(self, what: str) -> None:
        """One line on stderr."""
        self._said = True
        waited = time.monotonic() - self._start
        say(f"{self._who} has waited {waited:.0f} s {what}; after {self._limit:g} s (training.start_seconds) it ends")

    def pause(self) -> None:
        """Longer each time."""
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, POLL_LONGEST)


def _there(meeting: Meeting) -> list[int]:
    missing = set(meeting.missing())
    return [rank for rank in range(meeting.world_size) if rank not in missing] or [meeting.rank]


def _missing(meeting: Meeting) -> str:
    """'ranks 2, 3 of 4 (there: rank 0, process 17 on a; ...)', long lists cut."""
    missing, there = meeting.missing(), _there(meeting)
    named = ", ".join(map(str, missing[:8])) + (f" and {len(missing) - 8} more" if len(missing) > 8 else "")
    known = "; ".join(f"rank {rank}, {meeting.store.get(f'who/{rank}').decode()}" for rank in there[:4])
    more = f"; {len(there) - 4} more" if len(there) > 4 else ""
    return f"rank{'s' if len(missing) != 1 else ''} {named} of {meeting.world_size} (there: {known}{more})"


def _host(port: int) -> dist.TCPStore:
    try:
        with socket.create_server(("", port)):  # torch's own error is a stack trace of C++
            pass
        return dist.TCPStore("localhost", port, None, True, STORE_TIMEOUT, wait_for_workers=False)
    except (OSError, dist.DistNetworkError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise InputError(
            f"rank 0 cannot listen on MASTER_PORT={port} of {socket.gethostname()} ({reason}): does another job have it? Choose a free port"
        ) from None


def _await_listener(host: str, port: int, rank: int, seconds: float, who: str, quiet: bool) -> None:
    """Until something listens there. torch's own attempts fill the screen with stack traces of C++."""
    deadline = time.monotonic() + seconds
    waits = Waits(f"rank {rank} ({socket.gethostname()})", seconds)
    while True:
        try:
            with socket.create_connection((host, port), timeout=max(1.0, min(5.0, deadline - time.monotonic()))):
                return
        except OSError as error:
            reason = error.strerror or str(error)
        if time.monotonic() > deadline:
            raise InputError(
                f"{who} does not answer at {host}:{port} (MASTER_ADDR, MASTER_PORT): {reason}, for {seconds:g} s "
                "(training.start_seconds). Has it started, and can this host reach it?"
            )
        if waits.over(SAY_AFTER) and not quiet:
            waits.say(f"for {who} at {host}:{port} (MASTER_ADDR, MASTER_PORT): {reason}")
        waits.pause()


def _connect(host: str, port: int) -> dist.TCPStore:
    """torch waits for ever for a server that accepts and does not answer: in a thread of its own it may."""
    found = within(
        ANSWER_SECONDS, lambda: dist.TCPStore(host, port, None, False, STORE_TIMEOUT, wait_for_workers=False)
    )
    if found is None:
        raise InputError(
            f"what listens at {host}:{port} (MASTER_ADDR, MASTER_PORT) is not the store of a job: another program has the port. "
            "Choose a free one, the same for all ranks"
        )
    return found


def _check_job(meeting: Meeting, seconds: float) -> None:
    """Rank 0 registers as soon as its store is there; else the store is another job's."""
    deadline = time.monotonic() + seconds
    while not (meeting.store.check(["who/0"]) or Failure.read(meeting.store)):
        if time.monotonic() > deadline:
            raise InputError(
                f"the store at {meeting.place} (MASTER_ADDR, MASTER_PORT) is not this job's: rank 0 of {meeting.world_size} has not "
                "registered there. Another job, or one of another WORLD_SIZE, has the port: choose a free one, the same for all ranks"
            )
        time.sleep(POLL_SHORTEST)


def within(seconds: float, work: Callable[[], T]) -> T | None:
    """Its result; None if the store failed or did not answer in time: a store whose process is stopped answers never."""
    found: list[T] = []

    def attempt() -> None:
        with contextlib.suppress(RuntimeError):  # torch.distributed's errors are
            found.append(work())

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else None
