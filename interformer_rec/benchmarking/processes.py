"""Who takes a turn. In: a turn and a number of ranks; out: its answer. Under torchrun the job's own ranks, else processes of this host.

Processes are fresh for each turn, forked from one that has loaded torch: memory that one point leaves behind is in no other's numbers, and
a turn that is killed for want of memory is a result, not the end of the benchmark.
"""

import json
import multiprocessing
import multiprocessing.connection
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from interformer_rec.benchmarking.machine import ceilings
from interformer_rec.benchmarking.turn import Turn, take_turn
from interformer_rec.distributed.environment import Environment, process_group
from interformer_rec.errors import InputError, say

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
KILLED = -9  # exit code of what the system, or this process, has killed
BAD_INPUT = 2  # exit code of a rank, as the command's


class Failed(RuntimeError):
    """A turn that ended without an answer; the message says why, as far as it is known."""


class Ranks(Protocol):
    """Those that take turns."""

    def take(self, turn: Turn, ranks: int) -> dict[str, Any]:
        """A point's answer, on every rank. Raises InputError, or Failed."""
        ...

    def ceilings(self, ranks: int, device: str) -> dict[str, float]:
        """What a rank reaches at best while the others do the same."""
        ...


class ThisJob:
    """The ranks of the job that this process is one of."""

    def __init__(self, env: Environment) -> None:
        self._env = env

    def take(self, turn: Turn, ranks: int) -> dict[str, Any]:
        """On all ranks at once; what one raises ends the job."""
        return take_turn(turn, self._env)

    def ceilings(self, ranks: int, device: str) -> dict[str, float]:
        """Of this job's ranks."""
        return ceilings(self._env)


class FreshProcesses:
    """Processes of this host, new ones for each turn."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._turns = folder, 0
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__])

    def take(self, turn: Turn, ranks: int) -> dict[str, Any]:
        """Start, wait, read what rank 0 has written."""
        device = turn.load()[0].training.device
        return self._run(ranks, device, _take, (turn,))

    def ceilings(self, ranks: int, device: str) -> dict[str, float]:
        """Of so many processes side by side."""
        return self._run(ranks, device, _ceilings, ())

    def _run(self, ranks: int, device: str, work: Callable[..., dict[str, Any]], arguments: tuple[Any, ...]) -> Any:
        self._turns += 1
        folder = self._folder / f"turn-{self._turns}"
        folder.mkdir()
        children = [
            self._context.Process(target=_rank, args=(rank, ranks, str(folder), device, work, arguments))
            for rank in range(ranks)
        ]
        for child in children:
            child.start()
        try:
            self._wait(children)
        finally:
            for child in children:
                if child.is_alive():
                    child.kill()
                child.join()
        codes = [child.exitcode for child in children]
        if any(codes):
            self._fail(folder, codes)
        return json.loads((folder / "answer.json").read_text(encoding="utf-8"))

    def _wait(self, children: list[Any]) -> None:
        """Until all have ended, or one has failed: the others would wait for it."""
        waiting = {child.sentinel: child for child in children}
        while waiting:
            for sentinel in multiprocessing.connection.wait(list(waiting)):
                child = waiting.pop(sentinel)  # type: ignore[call-overload]
                child.join()
                if child.exitcode:
                    return

    def _fail(self, folder: Path, codes: list[int | None]) -> None:
        """Raise what the first rank that failed has said."""
        own = [rank for rank, code in enumerate(codes) if code and code != KILLED]  # the others were ended with it
        rank = own[0] if own else codes.index(KILLED)
        log = folder / f"{rank}.log"
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
        if codes[rank] == BAD_INPUT:
            raise InputError(" ".join(said[-1:]) or "a rank refused its input")
        if codes[rank] == KILLED:
            raise Failed("a process was killed, as the system does when memory runs out")
        raise Failed(" ".join(said[-1:]) or f"a process ended with exit code {codes[rank]}")


def _take(env: Environment, turn: Turn) -> dict[str, Any]:
    return take_turn(turn, env)


def _ceilings(env: Environment) -> dict[str, Any]:
    return ceilings(env)


def _rank(
    rank: int, ranks: int, folder: str, device: str, work: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    """In a child: one rank. What it prints goes to a file; its exit code says what became of it."""
    log = os.open(f"{folder}/{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update({name: str(value) for name, value in zip(NAMES, (rank, ranks, rank, ranks), strict=True)})
    try:
        with process_group(device, rendezvous=f"file://{folder}/store") as env:
            answer = work(env, *arguments)
            if env.is_main:
                Path(f"{folder}/answer.json").write_text(json.dumps(answer), encoding="utf-8")
    except InputError as error:
        say(" ".join(str(error).split()))
        sys.exit(BAD_INPUT)
    except Exception as error:
        traceback.print_exc()
        say(f"{type(error).__name__}: {error}")
        sys.exit(1)
