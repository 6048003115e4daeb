"""Real ranks for tests: start processes that join one gloo group, and bring their results back."""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Callable
from typing import Any

import torch
import torch.multiprocessing as mp

from interformer_rec.distributed.environment import Environment, process_group


def on_ranks(world_size: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """`function(env, *args)` on every rank of a fresh group; its results by rank. Fails with the first rank's traceback."""
    context = mp.get_context("spawn")
    results: Any = context.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(target=_rank, args=(rank, world_size, folder, results, function, args))
            for rank in range(world_size)
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


def _rank(rank: int, world_size: int, folder: str, results: Any, function: Callable[..., Any], args: Any) -> None:
    torch.set_num_threads(1)
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    os.environ.update({name: str(n) for name, n in zip(names, (rank, world_size, rank, world_size), strict=True)})
    try:
        with process_group("cpu", rendezvous=f"file://{folder}/store") as env:
            results.put((rank, (True, function(env, *args))))
    except BaseException:
        results.put((rank, (False, f"rank {rank}:\n{traceback.format_exc()}")))


def on_one(function: Callable[[Environment], Any], *args: Any) -> Any:
    """The same without a second process: world size 1, in this process."""
    with process_group("cpu") as env:
        return function(env, *args)
