"""Real ranks for tests: start processes that join one gloo group, and bring their results back.

A rank is forked from a process that has loaded torch, TorchRec and FBGEMM, and starts with the test's environment variables.
"""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Callable
from typing import Any

import torch

from interformer_rec.distributed.environment import Environment, process_group
from tests.forked import CONTEXT


def on_ranks(world_size: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """`function(env, *args)` on every rank of a fresh group; its results by rank. Fails with the first rank's traceback."""
    results: Any = CONTEXT.SimpleQueue()
    ranks = [{**dict(os.environ), **numbered} for numbered in _numbered(world_size)]
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            CONTEXT.Process(target=_rank, args=(variables, folder, results, function, args)) for variables in ranks
        ]
        for process in processes:
            process.start()
        found = dict([results.get() for _ in processes][:world_size])
        for process in processes:
            process.join()
    failures = [text for ok, text in found.values() if not ok]
    if failures:
        raise AssertionError("\n".join(failures))
    return [found[rank][1] for rank in range(world_size)]


def _numbered(world_size: int) -> list[dict[str, str]]:
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    numbers = [(rank, world_size, rank, world_size) for rank in range(world_size)]
    return [{name: str(number) for name, number in zip(names, one, strict=True)} for one in numbers]


def _rank(variables: dict[str, str], folder: str, results: Any, function: Callable[..., Any], args: Any) -> None:
    torch.set_num_threads(1)
    os.environ.clear()  # of the process it was forked from, which may be as old as the first test
    os.environ.update(variables)
    rank = int(variables["RANK"])
    try:
        with process_group("cpu", rendezvous=f"file://{folder}/store") as env:
            results.put((rank, (True, function(env, *args))))
    except BaseException:
        results.put((rank, (False, f"rank {rank}:\n{traceback.format_exc()}")))


def on_one(function: Callable[[Environment], Any], *args: Any) -> Any:
    """The same without a second process: world size 1, in this process."""
    with process_group("cpu") as env:
        return function(env, *args)
