"""Several ranks: started here or by a launcher, what they send, and what becomes of a turn that fails."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from interformer_rec import cli
from interformer_rec.benchmarking.processes import Failed, FreshProcesses
from interformer_rec.benchmarking.turn import Sent
from interformer_rec.distributed.environment import Environment
from interformer_rec.errors import InputError
from tests.benchmarking.conftest import SHORT, content, sets
from tests.forked import command
from tests.launch import on_ranks


@pytest.mark.slow
def test_ranks_that_are_started_here_send_what_the_planner_predicts(config: Path, tmp_path: Path):
    argv = ["benchmark", str(config), *sets(), *SHORT, "--lengths", "6", "--ranks", "1,2", "--out", str(tmp_path)]
    assert cli.main(argv) == 0
    alone, two = content(tmp_path)["cases"]
    assert (alone["ranks"], two["ranks"]) == (1, 2) and alone["sent_bytes"] == 0
    assert two["sent_bytes"] == pytest.approx(two["predicted"]["sent_bytes"], rel=0.1)
    assert two["error"] is None and two["samples_per_second"] > 0 and set(content(tmp_path)["ceilings"]) == {"1", "2"}


@pytest.mark.slow
def test_a_launchers_ranks_take_the_turns_together(config: Path, tmp_path: Path):
    out = tmp_path / "out"
    ended = command(2, "benchmark", config, *sets(), *SHORT, "--lengths", "4", "--out", out, limit=300)
    assert [one.code for one in ended] == [0, 0], ended
    (case,) = content(out)["cases"]
    assert case["ranks"] == 2 and case["error"] is None and case["samples_per_second"] > 0 and case["sent_bytes"] > 0
    assert "samples/s" in ended[0].printed and "samples/s" not in ended[1].printed


def test_a_launchers_ranks_are_not_asked_for_others(config: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli.main(["benchmark", str(config), *sets(), "--ranks", "4"]) == 2
    assert "this job has its 2 already" in capsys.readouterr().err


def die(env: Environment) -> dict[str, Any]:
    if env.rank == env.world_size - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.barrier()
    return {}


def refuse(env: Environment) -> dict[str, Any]:
    raise InputError("the rows are\nbad")


def break_down(env: Environment) -> dict[str, Any]:
    raise RuntimeError("a part broke")


@pytest.mark.parametrize(
    "work, kind, said", [(die, Failed, "killed"), (refuse, InputError, "the rows are bad"), (break_down, Failed, "a part broke")]
)  # fmt: skip
def test_a_turn_that_fails_says_why(work: Any, kind: type[Exception], said: str, tmp_path: Path):
    with pytest.raises(kind, match=said):
        FreshProcesses(tmp_path)._run(1, "cpu", work, ())


def send_some(env: Environment) -> dict[str, int]:
    """5 rows of 4 floats, of which each rank keeps 2 or 3; a mean of 10 floats; a part of 6 and a gathering of 3."""
    with Sent() as counter:
        splits = [2, 3] if env.rank == 0 else [3, 2]
        out = torch.empty(sum(splits), 4)
        dist.all_to_all_single(out, torch.ones(5, 4), splits if env.rank == 0 else [2, 3][::-1], splits)
        weights = torch.ones(10, requires_grad=True)
        (weights * 2).sum().backward()
        dist.all_reduce(weights.grad)
        dist.all_gather_into_tensor(torch.empty(6), torch.ones(3))
        dist.reduce_scatter_tensor(torch.empty(3), torch.ones(6))
    return dict(counter.bytes)


def test_bytes_are_those_that_leave_the_rank():
    first, second = on_ranks(2, send_some)
    assert first == second
    assert sorted(first.values()) == sorted([3 * 4 * 4, 10 * 4, 3 * 4, 3 * 4])
