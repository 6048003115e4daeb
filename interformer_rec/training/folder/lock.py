"""One job at a time trains in a run folder. In: the folders a run writes to; out: their locks, kept alive, or who holds them.

A lock counts as stale when its process is gone (seen from the same machine), or when nobody kept it alive for `silent_seconds` (from
another one). An attempt of the same torchrun or Slurm job needs less patience: its predecessor was ended before it began.
"""

import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType

import psutil

from interformer_rec.errors import InputError
from interformer_rec.storage import Storage
from interformer_rec.training.folder.lock_file import ERRORS, SILENT_SECONDS, Found, Holder, LockFile, lock_file

SHORTEST = 3.0  # seconds; between it and SILENT_SECONDS, a job that is silent for hang_seconds is dead
BEATS = 12  # signs of life in that time
BEATS_OF_THE_SAME_JOB = 3  # as many missed, and an earlier attempt of the same job is dead
ATTEMPTS = 20  # breaking and taking again: others may be as fast
ENDING = (signal.SIGTERM, signal.SIGHUP)


class RunLost(RuntimeError):
    """The run folder is no longer this job's: it is gone, or another job took it."""


class RunLock:
    """The locks of one run, held by rank 0 for the whole job."""

    def __init__(self, places: Sequence[Storage], silent_seconds: float, say: Callable[[str], None]) -> None:
        """`silent_seconds`: how long this job may give no sign of life; `say`: one line for the user while waiting."""
        self.silent_seconds = max(SHORTEST, min(SILENT_SECONDS, silent_seconds))
        self.say = say
        self._locks: list[LockFile] = [lock_file(place, whoami(self.silent_seconds)) for place in places]
        self._held: list[LockFile] = []
        self._lost = ""
        self._stop, self._beating = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._keep_alive, name="run lock", daemon=True)

    def take(self) -> None:
        """Hold all places or none. Raises InputError that says who holds one and what to do."""
        try:
            for lock in self._locks:
                self._held.append(lock)
                self._take(lock)
        except BaseException:
            self.release()
            raise
        self._thread.start()

    def release(self) -> None:
        """Give all up. Never raises: what cannot be removed becomes stale."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(self.silent_seconds)
        while self._held:
            with suppress(*ERRORS):
                self._held.pop().release()

    def lost(self) -> str:
        """Why this job may write no more, in a sentence; "" while it may. Looks at the storage."""
        with self._beating:
            for lock in self._held:
                try:
                    if not self._lost and not lock.beat():
                        self._lost = _how_lost(lock)
                except ERRORS:
                    pass  # whoever writes next meets the same error and reports it
            return self._lost

    def _keep_alive(self) -> None:
        while not self._stop.wait(self.silent_seconds / BEATS):
            self.lost()

    def _take(self, lock: LockFile) -> None:
        location = lock.storage.location
        try:
            for _ in range(ATTEMPTS):
                found = lock.take()
                if found is None:
                    return
                stale = self._stale(lock, found)
                if stale is None:
                    raise InputError(_in_use(location, found))
                lock.remove(stale)
        except ERRORS as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"cannot make the run's lock in {location!r}: {reason}") from None
        raise InputError(f"{location!r}: others take and give up its lock all the time; start again when they are done")

    def _stale(self, lock: LockFile, found: Found) -> Found | None:
        """The lock as it was last seen, if its holder is dead, which may take a while to see; None after a sign of life."""
        holder, me = found.holder, whoami(self.silent_seconds)
        silence = holder.silent_seconds if holder is not None else SILENT_SECONDS
        same_job = holder is not None and holder.job != "" and holder.job == me.job
        if holder is not None and holder.machine == me.machine:
            return found if _ends(lock, found, holder, within=silence if same_job else 0) else None
        if found.age is not None and found.age > silence:
            return found
        if same_job:
            return _silent(lock, found, silence * BEATS_OF_THE_SAME_JOB / BEATS, within=silence)
        self.say(f"{_held_by(lock.storage.location, found)}; watching for a sign of life, {silence:.0f} s")
        return _silent(lock, found, silence, within=0)


def _ends(lock: LockFile, found: Found, holder: Holder, within: float) -> bool:
    """Whether a process of this machine is gone or gives its lock up, now or `within` so many seconds."""
    deadline = time.monotonic() + within
    while process_start(holder.pid) in ("", holder.process_start) and lock.mark(found) is not None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.1)
    return True


def _silent(lock: LockFile, found: Found, silence: float, within: float) -> Found | None:
    """The lock, once it gave no sign of life for `silence` seconds; None if it gave one later than `within` seconds from now."""
    began = last = time.monotonic()
    while time.monotonic() - last < silence:
        time.sleep(silence / BEATS)
        mark = lock.mark(found)
        if mark is None:
            return found
        if mark != found.mark:
            found, last = replace(found, mark=mark), time.monotonic()
            if last - began > within:
                return None
    return found


def whoami(silent_seconds: float) -> Holder:
    """This process, with a token of its own for every call."""
    return Holder(
        token=uuid.uuid4().hex,
        host=socket.gethostname(),
        machine=_machine(),
        pid=os.getpid(),
        process_start=process_start(os.getpid()) or "",
        job=_job(),
        since=time.strftime("%Y-%m-%d %H:%M:%S %z"),
        silent_seconds=silent_seconds,
    )


def process_start(pid: int) -> str | None:
    """When a process of this machine began, as text to compare; "" if that cannot be seen, None if it is gone or dead."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        pass  # another user's
    try:
        if sys.platform != "linux":
            return f"{psutil.Process(pid).create_time():.0f}"
        # In ticks since the boot: no change of the clock moves it. The name before it may hold blanks and brackets.
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (psutil.Error, OSError):
        return ""
    return None if stat[0] in "ZX" else stat[19]


@contextmanager
def ending_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP, where nobody else takes them, end the process through its `finally` blocks, so that locks are released."""

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    taken = [number for number in ENDING if signal.getsignal(number) == signal.SIG_DFL]
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return f"{socket.gethostname()} {psutil.boot_time():.0f}"


def _job() -> str:
    run = os.environ.get("TORCHELASTIC_RUN_ID", "")
    slurm = os.environ.get("SLURM_JOB_ID", "")
    parts = [f"torchrun {run}" if run not in ("", "none") else "", f"Slurm {slurm}" if slurm else ""]
    return ", ".join(part for part in parts if part)


def _held_by(location: str, found: Found) -> str:
    holder = found.holder
    if holder is None:
        return f"{location!r} is locked by a file that cannot be read ({found.name})"
    job = f", job {holder.job}" if holder.job else ""
    return f"{location!r} is in use: process {holder.pid} on host {holder.host} trains there since {holder.since}{job}"


def _in_use(location: str, found: Found) -> str:
    holder = found.holder
    end = f"end it (kill {holder.pid} on {holder.host})" if holder is not None else "end its job"
    return (
        f"{_held_by(location, found)}. Two jobs would overwrite each other's checkpoints: wait for it, {end}, or train elsewhere with "
        f"--set training.out=DIR. If you are certain that it is gone, delete {found.name} there. Nothing of the run was changed"
    )


def _how_lost(lock: LockFile) -> str:
    location = lock.storage.location
    if lock.storage.local is not None and not lock.storage.local.is_dir():
        return (
            f"the folder {location!r} is gone: it was deleted or its storage was unmounted while this job trained in it"
        )
    return (
        f"this job's lock in {location!r} is gone: another job took it over or somebody deleted it. To leave alone what that job writes "
        f"there, this one ends without saving; `--resume` goes on from the newest checkpoint there"
    )
