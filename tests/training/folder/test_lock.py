"""One job at a time in a run folder: who is refused, which lock is stale, what a job does that lost its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import fsspec
import pytest

from interformer_rec.errors import InputError
from interformer_rec.storage import Storage
from interformer_rec.training.folder import lock as run_lock
from interformer_rec.training.folder.lock import RunLock, process_start, whoami
from interformer_rec.training.folder.lock_file import NAME, Holder, lock_file
from tests.s3 import s3_server

ELSEWHERE = "another kernel, another process namespace"


@pytest.fixture(params=["local", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """A folder that is not there yet, on a mounted file system and on one that is not."""
    if request.param == "local":
        yield Storage.open(tmp_path / "a" / "run")
        return
    name = f"lock-test-{uuid.uuid4().hex}"
    yield Storage.open(f"memory://{name}/run")
    memory = fsspec.filesystem("memory")
    if memory.exists(f"/{name}"):
        memory.rm(f"/{name}", recursive=True)


def lock_of(place: Storage, silent_seconds: float = 60, lines: list[str] | None = None) -> RunLock:
    return RunLock([place], silent_seconds, (lines if lines is not None else []).append)


def files(place: Storage) -> list[str]:
    return [name for name in place.names() if name.startswith("lock")]


def hold(place: Storage, **who: object) -> Holder:
    """A lock of somebody who does not keep it alive."""
    holder = replace(whoami(3), **who)  # type: ignore[arg-type]
    assert lock_file(place, holder).take() is None
    return holder


def dead_process() -> tuple[int, str]:
    """Number and start of a process that is gone."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start = process_start(process.pid)
    process.communicate(b"\n")
    assert start
    return process.pid, start


def test_a_second_job_is_refused_until_the_first_is_done(place: Storage) -> None:
    first, second = lock_of(place), lock_of(place)
    first.take()
    with pytest.raises(
        InputError, match=rf"in use: process {os.getpid()} on host \S+ trains there since \d{{4}}-.*--set training.out"
    ):
        second.take()
    assert len(files(place)) == 1 and first.lost() == ""
    first.release()
    assert files(place) == []
    third = lock_of(place)
    third.take()
    third.release()
    assert place.local is None or not place.local.parent.exists(), "folders made for a lock go with it"


def test_a_lock_whose_process_is_gone_is_taken_over_at_once(place: Storage) -> None:
    pid, start = dead_process()
    hold(place, pid=pid, process_start=start)
    began = time.monotonic()
    lock = lock_of(place)
    lock.take()
    assert time.monotonic() - began < 30 and len(files(place)) == 1  # half of silent_seconds
    lock.release()
    hold(place, process_start="7")  # this process's number, of an earlier one
    lock = lock_of(place)
    lock.take()
    lock.release()
    assert files(place) == []


def test_a_lock_of_another_host_is_stale_when_nobody_keeps_it_alive(place: Storage) -> None:
    hold(place, machine=ELSEWHERE, host="there", pid=1, silent_seconds=0.5)
    lines: list[str] = []
    lock = lock_of(place, lines=lines)
    lock.take()
    lock.release()
    assert re.search(r"process 1 on host there.*watching for a sign of life", lines[0])


def test_a_lock_of_another_host_that_is_kept_alive_is_left_alone(place: Storage) -> None:
    theirs = lock_file(place, replace(whoami(1), machine=ELSEWHERE, host="there"))
    assert theirs.take() is None
    ended = threading.Event()

    def keep_alive() -> None:
        while not ended.wait(0.05):
            assert theirs.beat()

    with ThreadPoolExecutor(1) as pool:
        alive = pool.submit(keep_alive)
        with pytest.raises(InputError, match="on host there trains there"):
            lock_of(place).take()
        ended.set()
        alive.result()
    assert theirs.beat()


def test_an_old_lock_of_another_host_needs_no_watching(tmp_path: Path) -> None:
    place = Storage.open(tmp_path)
    hold(place, machine=ELSEWHERE, silent_seconds=60.0)
    os.utime(tmp_path / NAME, (time.time() - 61,) * 2)
    began = time.monotonic()
    lock_of(place).take()
    assert time.monotonic() - began < 30


def test_a_restart_of_the_same_job_waits_for_its_predecessor(place: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "an-id")
    first, second = lock_of(place), lock_of(place)
    first.take()
    threading.Timer(0.3, first.release).start()
    second.take()
    second.release()
    hold(place, machine=ELSEWHERE, silent_seconds=12.0)
    began = time.monotonic()
    lock = lock_of(place)
    lock.take()
    assert time.monotonic() - began < 12  # a part of what another job waits
    lock.release()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"token": 1}', b"[" * 100_000, b"\xff\x00"])
def test_a_lock_file_that_says_nothing_counts_by_its_age(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    os.utime(tmp_path / NAME, (time.time() - 61,) * 2)
    lock = lock_of(Storage.open(tmp_path))
    lock.take()
    lock.release()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [{"pid": -1}, {"pid": 0}, {"silent_seconds": 1e9}, {"silent_seconds": float("nan")}, {"host": "a\nb"}, {"job": 7}],
)
def test_nonsense_in_a_lock_file_is_not_believed(wrong: dict[str, object]) -> None:
    good = whoami(3)
    assert Holder.from_bytes(good.to_bytes()) == good
    assert Holder.from_bytes(json.dumps({**asdict(good), **wrong}).encode()) is None


def test_of_many_that_break_a_stale_lock_one_wins(place: Storage) -> None:
    pid, start = dead_process()
    hold(place, pid=pid, process_start=start)
    locks = [lock_of(place) for _ in range(8)]

    def take(lock: RunLock) -> bool:
        try:
            lock.take()
        except InputError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, locks)) == 1
    assert sum(lock.lost() == "" for lock in locks if lock._held) == 1 and len(files(place)) == 1


def test_a_job_that_was_only_slow_learns_that_its_lock_was_broken(place: Storage) -> None:
    slow = lock_file(place, replace(whoami(1), machine=ELSEWHERE))
    assert slow.take() is None and slow.beat()
    lock = lock_of(place)
    lock.take()
    assert not slow.beat()
    slow.release()
    assert lock.lost() == "", "what is not one's own stays"
    lock.release()


def test_locks_in_an_object_store() -> None:
    with s3_server() as store:
        place = Storage.open(store.uri("runs/one"))
        pid, start = dead_process()
        hold(place, pid=pid, process_start=start)
        first = lock_of(place)
        first.take()
        with pytest.raises(InputError, match="in use"):
            lock_of(place).take()
        assert first.lost() == "" and len(files(place)) == 1
        first.release()
        assert files(place) == []


def test_a_kill_leaves_a_lock_that_the_next_start_takes_over(tmp_path: Path) -> None:
    place = Storage.open(tmp_path / "a" / "run")
    code = (
        "import os, signal, sys\n"
        "from interformer_rec.storage import Storage\n"
        "from interformer_rec.training.folder.lock import RunLock\n"
        "RunLock([Storage.open(sys.argv[1])], 60, print).take()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, place.location], check=False).returncode == -signal.SIGKILL
    assert files(place) == [NAME]
    lock = lock_of(place)
    lock.take()
    lock.release()


def test_the_patience_follows_hang_seconds() -> None:
    assert lock_of(Storage.open("x"), 600).silent_seconds == run_lock.SILENT_SECONDS
    assert lock_of(Storage.open("x"), float("inf")).silent_seconds == run_lock.SILENT_SECONDS
    assert lock_of(Storage.open("x"), 0.1).silent_seconds == run_lock.SHORTEST
