"""Where this process runs: rank, world size, device, process group. In: torchrun's environment variables; out: Environment.

A process started without torchrun is world size 1 of the same path: a process group of one, no second implementation.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from interformer_rec.distributed.threads import share_cores
from interformer_rec.errors import DamagedError, InputError

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
T = TypeVar("T")
COLLECTIVE_TIMEOUT = timedelta(minutes=30)  # a first batch from cold storage may take minutes on one rank
AGENT_TIMEOUT = timedelta(minutes=1)  # torchrun's store is there before its ranks are


@dataclass(frozen=True)
class Environment:
    """One rank's place in the job."""

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Rank 0 writes the run's files."""
        return self.rank == 0

    def on_main(self, function: Callable[[], T]) -> T:
        """Run on rank 0, hand its result to every rank; an InputError there is raised on all, so that none waits forever."""
        box: list[Any] = [None, None]
        if self.is_main:
            try:
                box[0] = function()
            except InputError as error:
                box[1] = DamagedError if isinstance(error, DamagedError) else InputError, str(error)
        dist.broadcast_object_list(box, src=0, device=self.device)
        if box[1] is not None:
            kind, message = box[1]
            raise kind(message)
        return box[0]


@contextmanager
def process_group(device: str = "auto", rendezvous: str = "env://") -> Iterator[Environment]:
    """Join the job (gloo on CPU, NCCL on CUDA) and leave it at the end. `rendezvous` is torch.distributed's init_method.

    Raises InputError if `device` is cuda and there is no GPU, or if torchrun's variables are incomplete.
    """
    env = _read_environment(device)
    _CHATTER.install()
    if env.device.type == "cuda":
        torch.cuda.set_device(env.device)
    else:
        share_cores(env.local_world_size)
    backend = "nccl" if env.device.type == "cuda" else "gloo"
    if "TORCHELASTIC_RUN_ID" in os.environ:
        _end_with_the_agent()
    if rendezvous == "env://" and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        store = _store_of_this_attempt(env.world_size)
        dist.init_process_group(
            backend, store=store, rank=env.rank, world_size=env.world_size, timeout=COLLECTIVE_TIMEOUT
        )
    elif "WORLD_SIZE" in os.environ:
        dist.init_process_group(
            backend, rendezvous, rank=env.rank, world_size=env.world_size, timeout=COLLECTIVE_TIMEOUT
        )
    else:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1, timeout=COLLECTIVE_TIMEOUT)
    try:
        yield env
    finally:
        dist.destroy_process_group()


def _store_of_this_attempt(world_size: int) -> dist.Store:
    """torchrun's store, without what earlier attempts have left in it.

    torch 2.13 keeps one store for all attempts of a job and sets no prefix (pytorch issue 135712): ranks that start again would
    read the addresses of dead ones and fail or wait for ever.
    """
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = dist.TCPStore(host, port, is_master=False, timeout=AGENT_TIMEOUT)
    store.set_timeout(COLLECTIVE_TIMEOUT)
    return dist.PrefixStore(f"attempt {attempt} of {world_size} ranks", store)


def _end_with_the_agent() -> None:
    """Ask Linux for a SIGTERM when torchrun dies: else its ranks would train on and write where the next job writes."""
    if sys.platform == "linux":
        agent = os.getppid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != agent:
            os.kill(os.getpid(), signal.SIGTERM)


class _Chatter(logging.Filter):
    """Drops what TorchRec 1.8.0 and torch 2.13 say about each other: nobody who runs a model can act on it."""

    WARNINGS = (
        "HeuristicalStorageReservation is known",
        "`broadcast_buffers` is deprecated",
        "Please use DTensor instead",
        "fbgemm::dense_embedding_codegen_lookup_function: an autograd kernel was not registered",
    )
    # logger -> how its message begins
    LOGS = {  # noqa: RUF012 - not a dataclass
        "": "Sharding spec not found for",
        "torchrec.distributed.utils": "Sharding Type is data_parallel, caching params will be ignored",
        "torch.fx._symbolic_trace": "is_fx_tracing will return true",
    }

    def filter(self, record: logging.LogRecord) -> bool:
        """False for a message of the list."""
        return not record.getMessage().startswith(tuple(self.LOGS.values()))

    def install(self) -> None:
        """Twice does no harm."""
        for message in self.WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        for name in self.LOGS:
            logging.getLogger(name).addFilter(self)


_CHATTER = _Chatter()


def _read_environment(device: str) -> Environment:
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    given = [name for name in names if name in os.environ]
    if given and len(given) < len(names):
        missing = ", ".join(name for name in names if name not in given)
        raise InputError(
            f"environment has {', '.join(given)} but not {missing}: start with torchrun, or unset them all"
        )
    rank, world_size, local_rank, local_world_size = (
        int(os.environ.get(n, d)) for n, d in zip(names, "0101", strict=True)
    )
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "training.device is cuda, but torch sees no GPU here: run `interformer doctor`, or set training.device=cpu"
        )
    if device != "cpu" and torch.cuda.is_available():
        if local_rank >= torch.cuda.device_count():
            raise InputError(
                f"local rank {local_rank} has no GPU of its own: {torch.cuda.device_count()} are visible; "
                f"start at most that many processes on a host, or set training.device=cpu"
            )
        return Environment(rank, world_size, local_rank, local_world_size, torch.device("cuda", local_rank))
    return Environment(rank, world_size, local_rank, local_world_size, torch.device("cpu"))
