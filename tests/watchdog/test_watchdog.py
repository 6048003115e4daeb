"""Ranks that really stop, hang, fail and leave: who is named, who ends, and that nobody else does."""

import contextlib
import ctypes
import io
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from interformer_rec.distributed.environment import process_group
from interformer_rec.watchdog import watchdog
from interformer_rec.watchdog.watchdog import Watchdog
from tests.forked import CONTEXT
from tests.launch import on_one

# A warning comes after a quarter of it: a machine so busy that a process stands still for that long would be warned of.
PATIENCE = 4.0
LATE = 90.0  # for a busy machine; what is waited for comes within patience and a few beats


@contextlib.contextmanager
def job(folder: Path, world_size: int, function: Callable, *args) -> Iterator[list]:
    """Real processes in one gloo group, stderr of each in `rank-N.err`; whatever they do to themselves, they are gone after."""
    processes = [
        CONTEXT.Process(target=_process, args=(rank, world_size, str(folder), function, args))
        for rank in range(world_size)
    ]
    try:
        for process in processes:
            process.start()
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.join()


def _process(rank: int, world_size: int, folder: str, function: Callable, args: tuple) -> None:
    torch.set_num_threads(1)
    os.dup2(os.open(f"{folder}/rank-{rank}.err", os.O_WRONLY | os.O_CREAT), 2)
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    os.environ.update(zip(names, map(str, (rank, world_size, rank, world_size)), strict=True))
    with process_group("cpu", rendezvous=f"file://{folder}/store") as env:
        function(env, Path(folder), *args)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LATE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def received(dog: Watchdog, rank: int, step: int) -> bool:
    return rank in dog._channel.received and dog._channel.received[rank].me.step == step


def _victim_and_waiting(env, folder, victim, harm):
    with Watchdog(env, PATIENCE) as dog:
        if env.rank == victim:
            dog.at(5, "waiting for data")
            wait_for((folder / "received").exists)
            harm()
        dog.at(5, "training")
        wait_for(lambda: received(dog, victim, 5))
        (folder / "received").touch()
        dist.all_reduce(torch.ones(1))


def _stop():
    os.kill(os.getpid(), signal.SIGSTOP)


def _keep_the_gil():
    ctypes.PyDLL(None).sleep(600)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_stopped_rank_is_named_and_the_other_ends(tmp_path, victim):
    with job(tmp_path, 2, _victim_and_waiting, victim, _stop) as processes:
        wait_for((tmp_path / "received").exists)
        stopped = (tmp_path / "received").stat().st_mtime  # or soon after
        processes[1 - victim].join(LATE)
        assert processes[1 - victim].exitcode == 1
        assert time.time() - stopped > PATIENCE / 2  # it was patience that ended it
        assert processes[victim].is_alive()
        said = (tmp_path / f"rank-{1 - victim}.err").read_text()
    named = rf"ank {victim} (host "
    warning, verdict = (line for line in said.splitlines() if named in line)
    assert "the others wait" in warning
    for text in (f"pid {processes[victim].pid})", "at step 5, waiting for data", "its process is stopped (SIGSTOP?)"):
        assert text in warning and text in verdict
    assert "training.hang_seconds" in verdict and f"so rank {1 - victim} ends" in verdict
    assert "in all_reduce" in said  # where this one hangs


def test_a_rank_that_keeps_the_gil_is_named_and_ends_too(tmp_path):
    with job(tmp_path, 2, _victim_and_waiting, 1, _keep_the_gil) as processes:
        for process in processes:
            process.join(LATE)
        assert [process.exitcode for process in processes] == [1, 1]
    assert "lives but does not answer" in (tmp_path / "rank-0.err").read_text()
    assert "in _keep_the_gil" in (tmp_path / "rank-1.err").read_text()


def _sleeps_then_hangs(env, folder):
    with Watchdog(env, PATIENCE) as dog:
        dog.at(1, "training")
        wait_for(lambda: dog._known == (1, "training"))
        (folder / "ready").touch()
        for _ in range(10):  # half a second of its own time, however long it is stopped in between
            time.sleep(0.05)
        (folder / "survived").touch()
        dog.at(2, "waiting for data")
        time.sleep(600)


def test_a_rank_alone_ends_when_it_hangs_but_not_for_having_been_suspended(tmp_path):
    with job(tmp_path, 1, _sleeps_then_hangs) as (process,):
        wait_for((tmp_path / "ready").exists)
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(1.25 * PATIENCE)
        os.kill(process.pid, signal.SIGCONT)
        process.join(LATE)
        assert process.exitcode == 1 and (tmp_path / "survived").exists()
    said = (tmp_path / "rank-0.err").read_text()
    assert "has been waiting for data at step 2 for" in said and "in _sleeps_then_hangs" in said


def _one_waits_for_data(env):
    """Rank 1 stands still until its watchdog ends it, which here only sets an event; rank 0 waits in a collective."""
    ended, lines = threading.Event(), []
    with (
        contextlib.redirect_stderr(io.StringIO()) as stderr,
        Watchdog(env, PATIENCE, lines.append, end=lambda code: ended.set()) as dog,
    ):
        dog.at(7, "training")
        if env.rank == 1:
            dog.at(7, "waiting for data")
            assert ended.wait(LATE)
        dist.all_reduce(torch.ones(1))
        assert ended.wait(LATE)
    return lines, stderr.getvalue()


def _goes_on_after_a_warning(env, folder):
    """Rank 1 stands still until rank 0 has warned."""
    lines, ends = [], []
    with Watchdog(env, 4 * PATIENCE, lines.append, end=ends.append) as dog:
        dog.at(8, "training")
        if env.rank == 1:
            dog.at(8, "saving checkpoint")
            wait_for((folder / "warned").exists)
        else:
            wait_for(lambda: lines)
            (folder / "warned").touch()
        dist.all_reduce(torch.ones(1))
        dog.at(9, "training")
        if env.is_main:
            wait_for(lambda: len(lines) == 2)
        dist.barrier()
    return lines, ends


def _leave_one_after_the_other(env, folder, first):
    """The other one trains on, then stands still until it is warned of."""
    folder.mkdir(exist_ok=True)
    lines, ends = [], []
    with (folder / f"{env.rank}.err").open("w") as file:
        stderr = os.dup(2)
        os.dup2(file.fileno(), 2)  # C++ says its things there
        with Watchdog(env, 3 * PATIENCE, lines.append, end=ends.append) as dog:
            if env.rank != first:
                for step in range(25):
                    dog.at(step, "training")
                    time.sleep(0.05)
                assert lines == []
                wait_for(lambda: lines)
        sys.stderr.flush()
        os.dup2(stderr, 2)
    dist.barrier()
    return lines, ends, (folder / f"{env.rank}.err").read_text()


def _one_fails(env):
    with contextlib.suppress(ValueError), Watchdog(env, 3 * PATIENCE) as dog:
        dog.at(3, "waiting for data")
        if env.rank == 1:
            raise ValueError("file 3, row group 2 is broken")
        return dog.last_seen()


def _one_fails_and_one_waits_for_it(env):
    ended, watchdog.AFTER_FAILURE = threading.Event(), PATIENCE / 2
    dog = Watchdog(env, 10 * PATIENCE, lambda line: None, end=lambda code: ended.set())
    with contextlib.redirect_stderr(io.StringIO()) as stderr, contextlib.suppress(ValueError), dog:
        dog.at(3, "training")
        if env.rank == 1:
            raise ValueError("row 5 is bad")
        assert ended.wait(LATE)
    return stderr.getvalue()


def _in_turn(env, folder):
    results = (
        _one_waits_for_data(env),
        _goes_on_after_a_warning(env, folder),
        _leave_one_after_the_other(env, folder / "zero", 0),
        _leave_one_after_the_other(env, folder / "one", 1),
        _one_fails(env),
        _one_fails_and_one_waits_for_it(env),
    )
    (folder / f"{env.rank}.pickle").write_bytes(pickle.dumps(results))


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What two ranks, 0 and 1, brought back from the functions above."""
    folder = tmp_path_factory.mktemp("ranks")
    with job(folder, 2, _in_turn) as processes:
        for process in processes:
            process.join(3 * LATE)
    said = [(folder / f"rank-{rank}.err").read_text() for rank in range(2)]
    assert [process.exitcode for process in processes] == [0, 0], said
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(2)]


def test_a_rank_that_waits_for_data_is_named_once(both):
    (warnings, said), (none, short) = (result[0] for result in both)
    assert len(warnings) == 1 and none == []  # by rank 0
    assert "so rank 0 ends. Rank 1 (host" in said
    assert "has been waiting for data at step 7" in said and "storage" in said
    assert "so rank 1 ends. Rank 0 says why. Python" in short and "waiting for data" not in short


def test_a_rank_that_goes_on_is_not_ended(both):
    (warning, relief), ends = both[0][1]
    assert warning.startswith("rank 1 (host") and "has been saving checkpoint at step 8 for" in warning
    assert relief.startswith("rank 1 (host") and "went on after" in relief
    assert both[1][1] == ([], []) and ends == []


@pytest.mark.parametrize("order, first", [(2, 0), (3, 1)])
def test_ranks_leave_in_any_order_and_are_not_blamed(both, order, first):
    assert both[first][order] == ([], [], "")
    (warning,), ends, stderr = both[1 - first][order]
    assert (ends, stderr) == ([], "")
    assert warning.startswith(f"rank {1 - first} (host") and "has been training at step 24 for" in warning


def test_a_rank_that_failed_says_why_to_the_others(both):
    assert "rank 1 (host" in both[0][4]
    assert "left with an error at step 3, waiting for data: ValueError: file 3, row group 2 is broken" in both[0][4]


def test_a_rank_that_waits_for_one_that_failed_ends_soon(both):
    assert "no progress for 2.0 s (after the failure of a rank), so rank 0 ends. Rank 1 (host" in both[0][5]
    assert "ValueError: row 5 is bad" in both[0][5] and both[1][5] == ""


def test_a_killed_rank_is_found_by_who_loses_it(tmp_path):
    with job(tmp_path, 2, _loses_a_rank) as processes:
        wait_for((tmp_path / "received").exists)
        processes[1].kill()
        processes[0].join(LATE)
    assert f"rank 1 (host {os.uname().nodename}, pid {processes[1].pid}) is silent" in (tmp_path / "said").read_text()
    assert "at step 5, training): its process is gone" in (tmp_path / "said").read_text()


def _loses_a_rank(env, folder):
    with contextlib.suppress(RuntimeError), Watchdog(env, 3 * PATIENCE) as dog:
        dog.at(5, "training")
        wait_for(lambda: received(dog, 1 - env.rank, 5))
        (folder / "received").touch()
        try:
            dist.all_reduce(torch.ones(1)) if env.is_main else time.sleep(600)
        except RuntimeError:
            (folder / "said").write_text(dog.last_seen())


def test_a_rank_alone_has_no_others_to_speak_of():
    def moves(env):
        ends = []
        with Watchdog(env, PATIENCE, end=ends.append) as dog:
            until = time.monotonic() + 1.25 * PATIENCE
            while time.monotonic() < until:
                dog.at(5, "evaluating")  # the same again is progress, too
                time.sleep(0.05)
        return ends, dog.last_seen()

    assert on_one(moves) == ([], "no other rank is known")
