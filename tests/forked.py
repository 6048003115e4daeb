"""Many small ranks: processes forked from one that has loaded torch, so that a rank starts in milliseconds.

Each has its own environment variables and its own stderr; nothing of a rank is left in the test's process.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch

from interformer_rec import cli

CONTEXT = mp.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "interformer_rec.training.run",
        "interformer_rec.training.scoring.trained",
        "pytest",
        "tests.forked",
        "tests.launch",
        "tests.torchrun",
        "tests.preloaded",  # the last
    ]
)


@dataclass
class Ended:
    """A rank that is no more: its exit code, what it printed on stderr, how long it lived."""

    code: int | None
    printed: str
    seconds: float


def free_port() -> int:
    with socket.create_server(("", 0)) as server:
        return int(server.getsockname()[1])


def environment(rank: int, size: int, port: int, **more: str) -> dict[str, str]:
    """What a launcher other than torchrun sets."""
    sizes = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    return {**{name: str(value) for name, value in sizes.items()}, "MASTER_ADDR": "localhost", **more}


def run(variables: list[Mapping[str, str]], work: Callable[..., int], *args: Any, limit: float = 60) -> list[Ended]:
    """`work(*args)` in a process for each set of variables; its result is the exit code. What outlives `limit` is killed."""
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder) / str(number) for number in range(len(variables))]
        ranks = [
            CONTEXT.Process(target=_one, args=(dict(given), str(log), work, args), daemon=True)
            for given, log in zip(variables, logs, strict=True)
        ]
        started = time.monotonic()
        for rank in ranks:
            rank.start()
        ended: dict[int, float] = {}
        while len(ended) < len(ranks) and time.monotonic() < started + limit:
            for number, rank in enumerate(ranks):
                if number not in ended and rank.exitcode is not None:
                    ended[number] = time.monotonic() - started
            time.sleep(0.02)
        for rank in ranks:
            rank.kill()
            rank.join()
        return [
            Ended(rank.exitcode, log.read_text() if log.exists() else "", ended.get(number, limit))
            for number, (rank, log) in enumerate(zip(ranks, logs, strict=True))
        ]


def command(ranks: int, *arguments: object, limit: float = 120) -> list[Ended]:
    """`interformer ARGUMENTS` on ranks of one job, as a launcher starts it; each rank's exit code and output."""
    port = free_port()
    variables = [environment(rank, ranks, port) for rank in range(ranks)]
    return run(variables, cli.main, [str(argument) for argument in arguments], limit=limit)


def begin(*arguments: object) -> ForkServerProcess:
    """`interformer ARGUMENTS` in one process that goes on, for a test that sends it a signal."""
    started = CONTEXT.Process(target=_one, args=({}, os.devnull, cli.main, ([str(one) for one in arguments],)))
    started.daemon = True
    started.start()
    return started


def _one(variables: dict[str, str], log: str, work: Callable[..., int], args: tuple[Any, ...]) -> None:
    os.environ.update(variables)
    torch.set_num_threads(1)
    file = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, 1)
    os.dup2(file, 2)
    try:
        code = work(*args)
    except BaseException:
        traceback.print_exc()
        code = 99
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(code)
