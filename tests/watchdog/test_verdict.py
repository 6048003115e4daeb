"""Who is named, of ranks that are made up: each case is one rule."""

from dataclasses import replace

import pytest

from interformer_rec.watchdog.verdict import Seen, accuse, judge, older, prints


def seen(rank: int, step: int = 40, doing: str = "training", idle: float = 31.0, **rest) -> Seen:
    return Seen(rank, "node-7", 1000 + rank, step, doing, idle, **rest)


def named(*ranks: Seen) -> tuple[str, list[int]]:
    verdict = judge(ranks, limit=30, silent_after=3)
    assert verdict is not None
    return verdict.kind, [one.rank for one in verdict.ranks]


@pytest.mark.parametrize(
    "ranks, kind, culprits",
    [
        ([seen(0), seen(1, 39)], "behind", [1]),
        ([seen(0), seen(1, doing="waiting for data")], "behind", [1]),
        ([seen(0, 39), seen(1, doing="waiting for data")], "behind", [0]),  # the step comes before what is done in it
        ([seen(0), seen(1, 38, quiet=4), seen(2, 37)], "silent", [1]),  # silent comes before the step
        ([seen(0), seen(1, quiet=5), seen(2, quiet=9)], "silent", [2, 1]),  # the longest silence first
        ([seen(0), seen(1, reason="its process is gone")], "silent", [1]),  # known to be gone before it is missed
        ([seen(0), seen(1, quiet=3), seen(2, 39)], "behind", [2]),  # not silent yet
        ([seen(0), seen(1, state="failed", error="ValueError: x"), seen(2, 3)], "failed", [1]),
        (
            [seen(0), seen(1, state="failed", quiet=5), seen(2, state="failed", quiet=6)],
            "failed",
            [2, 1],
        ),  # first first
        (
            [seen(0), seen(1, state="failed"), seen(2, quiet=4)],
            "silent",
            [2],
        ),  # rank 1 failed because rank 2 is missing
        ([seen(0), seen(1, 2, state="done", quiet=999)], "behind", [0]),  # who is done is not waited for
        ([seen(0, idle=33), seen(1, idle=31), seen(2, idle=32)], "together", [1, 2, 0]),  # the last to come first
        ([seen(n, doing="waiting for data") for n in range(4)], "together", [0, 1, 2]),  # three are named
        ([seen(0)], "behind", [0]),
    ],
)
def test_the_culprit(ranks, kind, culprits):
    assert named(*ranks) == (kind, culprits)


def test_no_hang_while_one_rank_moves():
    still = [seen(0), seen(1, 39, quiet=31)]
    assert judge(still, limit=30, silent_after=3) is not None
    assert judge([*still, seen(2, idle=29)], limit=30, silent_after=3) is None
    assert judge([*still, seen(2, idle=29, state="done")], limit=30, silent_after=3) is not None
    assert judge([seen(0, state="done")], limit=30, silent_after=3) is None


def test_a_rank_not_heard_of_does_not_move():
    assert older(seen(1, idle=2.0), 5.0) == seen(1, idle=7.0, quiet=5.0)


@pytest.mark.parametrize(
    "ranks, text, cure",
    [
        (
            [seen(0), seen(1, doing="waiting for data", idle=31.4)],
            "rank 1 (host node-7, pid 1001) has been waiting for data at step 40 for 31 s",
            "storage",
        ),
        (
            [seen(0), seen(1, quiet=4.25)],
            "rank 1 (host node-7, pid 1001) is silent (last seen 4.2 s ago at step 40, training): "
            "its process is stopped, its host is dead, or the network to it is cut",
            "host down",
        ),
        (
            [seen(0), seen(1, state="failed", error="ValueError: bad row")],
            "rank 1 (host node-7, pid 1001) left with an error at step 40, training: ValueError: bad row",
            "output of that rank",
        ),
        (
            [seen(0, idle=33), seen(1)],
            "all 2 ranks have been at step 40 (training) for 31 s; the last to come was rank 1 (host node-7, pid 1001)",
            "network",
        ),
    ],
)
def test_what_is_said(ranks, text, cure):
    verdict = judge(ranks, limit=30, silent_after=3)
    assert verdict.text == text
    assert cure in verdict.cure


def test_of_many_culprits_three_are_named():
    verdict = accuse([seen(n, quiet=5 + n) for n in range(128)], silent_after=3)
    assert [one.rank for one in verdict.ranks] == [127, 126, 125] and verdict.count == 128
    assert verdict.text.endswith("and 125 ranks more")
    assert accuse([replace(seen(0), state="done")], silent_after=3) is None


@pytest.mark.parametrize(
    "rank, beside, accused, first",
    [
        (1, [0], [], 0),
        (1, [0], [1], 0),
        (1, [2, 3], [], 1),
        (3, [1, 2], [1], 2),
        (2, [3], [2], 3),
        (2, [3], [2, 3], 2),
        (2, [], [2], 2),
    ],
)
def test_one_rank_of_each_agent_prints_the_verdict(rank, beside, accused, first):
    verdict = accuse([seen(n, quiet=9 if n in accused else 0) for n in range(4)], silent_after=3) if accused else None
    assert prints(rank, beside, verdict) == first
