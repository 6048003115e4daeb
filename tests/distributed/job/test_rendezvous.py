"""How ranks meet: whom they wait for, how long, and what they say when it cannot work."""

import os
import socket
import sys
import threading
import time

import pytest
import torch
import torch.distributed as dist

from interformer_rec.distributed.environment import process_group
from interformer_rec.distributed.job import rendezvous
from interformer_rec.distributed.job.failure import OtherRankFailed
from interformer_rec.errors import InputError
from tests.forked import environment, free_port, run


def start(seconds):
    """A rank that meets the others, adds up its rank, and ends with 0; 2 for bad input, 1 for another rank's failure."""
    rendezvous.ANSWER_SECONDS = 1.5
    try:
        with process_group("cpu", start_seconds=seconds) as env:
            total = torch.tensor(env.rank)
            dist.all_reduce(total)
            assert int(total) == env.world_size * (env.world_size - 1) // 2
        return 0
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except OtherRankFailed as error:
        print(f"followed rank {error.failure.rank}: {error}", file=sys.stderr)
        return 1


def start_beside(late, folder):
    """`start`, with events for time: a rank has waited long once all but the late one are there; that one comes when it is missed."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    come, say = rendezvous.Meeting.come, rendezvous.Waits.say

    def come_and_leave_a_note(meeting):
        come(meeting)
        (folder / f"here-{rank}").touch()

    def say_and_leave_a_note(waits, what):
        say(waits, what)
        (folder / f"said-{rank}").touch()

    def over(waits, seconds):
        assert seconds == rendezvous.SAY_AFTER
        return not waits._said and len(list(folder.glob("here-*"))) >= (size - 1 if late else 0)

    rendezvous.Meeting.come, rendezvous.Waits.say, rendezvous.Waits.over = (
        come_and_leave_a_note,
        say_and_leave_a_note,
        over,
    )
    while rank == late and not (folder / f"said-{0 if late else 1}").exists():
        time.sleep(0.01)
    return start(60)


@pytest.mark.parametrize("size", [2, 4])
def test_ranks_that_come_late_are_named_and_waited_for(size, tmp_path):
    port, late = free_port(), size - 1
    ended = run([environment(rank, size, port) for rank in range(size)], start_beside, late, tmp_path)
    assert [one.code for one in ended] == [0] * size, ended
    named = f"s for rank {late} of {size} (there: rank 0, pro"
    assert f"rank 0 of {size} " in ended[0].printed and named in ended[0].printed
    assert [one.printed for one in ended[1:]] == [""] * (size - 1), "one rank says it"
    (tmp_path / "again").mkdir()
    ended = run([environment(rank, size, port) for rank in range(size)], start_beside, 0, tmp_path / "again")
    assert [one.code for one in ended] == [0] * size, ended
    assert "has waited" in ended[1].printed and f"for rank 0 at localhost:{port}" in ended[1].printed


def test_ranks_whose_agents_have_started_them_a_different_number_of_times_meet():
    """A node that has come back counts from 0."""
    port = free_port()
    counts = ("0", "2")
    ended = run(
        [environment(n, 2, port, TORCHELASTIC_RESTART_COUNT=count) for n, count in enumerate(counts)], start, 20
    )
    assert [one.code for one in ended] == [0, 0], ended


def test_a_wait_says_once_and_late_what_it_waits_for(capsys):
    waits = rendezvous.Waits("rank 1 (a)", 60)
    assert not waits.over(60) and waits.over(0)
    waits.say("for rank 0")
    assert not waits.over(0)
    assert (
        "rank 1 (a) has waited 0 s for rank 0; after 60 s (training.start_seconds) it ends" in capsys.readouterr().err
    )


def test_ranks_that_never_come():
    port = free_port()
    alone, other = run([environment(rank, 4, port) for rank in (0, 2)], start, 3)
    assert alone.code != 0 != other.code and max(alone.seconds, other.seconds) < 30
    assert "ranks 1, 3 of 4 (there: rank 0, process" in alone.printed and "start_seconds" in alone.printed
    (nobody,) = run([environment(1, 2, free_port())], start, 1.5)
    assert nobody.code == 2 and nobody.seconds < 30
    assert "rank 0 does not answer at localhost" in nobody.printed and "Connection refused" in nobody.printed


def test_two_processes_of_one_rank():
    first = dist.TCPStore("localhost", 0, None, True, wait_for_workers=False)  # as another rank 0 hosts it
    (second,) = run([environment(0, 2, first.port)], start, 50)
    assert second.code == 2 and "cannot listen on MASTER_PORT" in second.printed
    port = free_port()
    ended = run([environment(rank, 3, port) for rank in (0, 1, 1)], start, 50)
    assert any("two processes have RANK=1 of 3" in one.printed for one in ended)
    assert all(one.code for one in ended) and max(one.seconds for one in ended) < 40, "rank 0 did not wait for rank 2"


def test_a_port_that_is_taken():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        zero, one = run([environment(rank, 2, port) for rank in range(2)], start, 50)
    assert zero.code == 2 and zero.seconds < 40 and f"MASTER_PORT={port}" in zero.printed
    assert "does another job have it?" in zero.printed
    assert one.code == 2 and "another program has the port" in one.printed


def test_the_store_of_another_job():
    other = dist.TCPStore("localhost", 0, None, True, wait_for_workers=False)
    (lost,) = run([environment(1, 2, other.port)], start, 30)
    assert lost.code == 2 and lost.seconds < 25 and "is not this job's: rank 0 of 2 has not registered" in lost.printed


def test_who_waits_for_a_rank_that_fails_ends_with_its_message():
    """Four ranks, and a rank 0 that fails: test_printed_once.py."""
    port = free_port()
    broken = (1, InputError("no such file: a.yaml"))
    zero, one = run([environment(rank, 2, port) for rank in range(2)], fail_before_start, broken, 60)
    assert (zero.code, one.code) == (1, 2) and zero.seconds < 50
    assert "followed rank 1: no such file: a.yaml" in zero.printed


def fail_before_start(broken, seconds):
    from_rank, error = broken
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if rank != from_rank:
        return start(seconds)
    meeting = rendezvous.reach(rank, size, seconds)
    meeting.post(error)
    return 2


def test_a_rank_that_is_killed_at_the_start_leaves_nobody_waiting():
    port = free_port()
    ended = run([environment(rank, 2, port) for rank in range(2)], die_after_coming, 3)
    assert ended[0].code == 2 and ended[0].seconds < 30
    assert "all 2 ranks are there, but rank 0" in ended[0].printed and "has one ended" in ended[0].printed


def die_after_coming(seconds):
    if os.environ["RANK"] == "1":
        rendezvous.meet(1, 2, seconds)
        os._exit(9)
    return start(seconds)


@pytest.mark.parametrize(
    "wrong, said",
    [
        (
            {"MASTER_ADDR": "no-such-host.invalid"},
            "MASTER_ADDR is 'no-such-host.invalid', a host that is not known here",
        ),
        ({"MASTER_ADDR": ""}, "MASTER_ADDR is not set"),
        ({"MASTER_PORT": ""}, "MASTER_PORT is not set"),
        ({"MASTER_PORT": "0"}, "MASTER_PORT is '0'"),
        ({"MASTER_PORT": "99999"}, "from 1 to 65535"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT is 'http'"),
        ({"RANK": "2"}, "RANK is 2, but WORLD_SIZE is 2"),
        ({"RANK": "-1"}, "RANK is '-1'; it must be a whole number"),
        ({"RANK": "one"}, "RANK is 'one'; it must be a whole number"),
        ({"WORLD_SIZE": "2.0"}, "WORLD_SIZE is '2.0'"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE is ''"),
        ({"LOCAL_RANK": "7"}, "LOCAL_RANK is 7, but LOCAL_WORLD_SIZE is 2"),
        ({"LOCAL_WORLD_SIZE": "4"}, "LOCAL_WORLD_SIZE (processes of this host) is 4, but WORLD_SIZE"),
    ],
)
def test_variables_that_mean_nothing(wrong, said, monkeypatch):
    for name, value in {**environment(1, 2, 29500), **wrong}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError) as refused, process_group("cpu", start_seconds=1):
        pass
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_a_store_that_does_not_answer_is_left_alone():
    event = threading.Event()
    began = time.monotonic()
    assert rendezvous.within(0.2, event.wait) is None and time.monotonic() - began < 20
    event.set()
