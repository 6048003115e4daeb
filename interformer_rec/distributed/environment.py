"""Where this process runs: rank, world size, device, process group. In: torchrun's environment variables; out: Environment.

A process started without torchrun is world size 1 of the same path: a process group of one, no second implementation.
"""

import ctypes
import logging
import os
import re
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from interformer_rec.distributed.job.failure import Failure, OtherRankFailed
from interformer_rec.distributed.job.rendezvous import Meeting, meet
from interformer_rec.distributed.threads import share_cores
from interformer_rec.errors import DamagedError, InputError

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
T = TypeVar("T")
COLLECTIVE_TIMEOUT = timedelta(minutes=30)  # a first batch from cold storage may take minutes on one rank
START_SECONDS = 600.0  # the default of training.start_seconds


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
        """Run on rank 0, hand its result to every rank; an error there is raised on all, so that none waits forever.

        An InputError is raised as one of its kind, everything else as OtherRankFailed where it is not rank 0's own.
        """
        box: list[Any] = [None, None, None]
        own: Exception | None = None
        if self.is_main:
            try:
                box[0] = function()
            except InputError as error:
                box[1] = DamagedError if isinstance(error, DamagedError) else InputError, str(error)
            except Exception as error:
                own, box[2] = error, Failure.whatever(error, self.rank)
        dist.broadcast_object_list(box, src=0, device=self.device)
        if own is not None:
            raise own
        if box[2] is not None:
            raise OtherRankFailed(box[2])
        if box[1] is not None:
            kind, message = box[1]
            found = kind(message)
            found.rank = 0
            raise found
        return box[0]


@contextmanager
def process_group(
    device: str = "auto", rendezvous: str = "env://", start_seconds: float = START_SECONDS
) -> Iterator[Environment]:
    """Join the job (gloo on CPU, NCCL on CUDA) and leave it at the end. `rendezvous` is torch.distributed's init_method.

    Waits `start_seconds` at most for the other ranks. Raises InputError if `device` is cuda and there is no GPU, if torchrun's
    variables are incomplete or mean nothing, or if a rank does not come; what another rank raised if one failed.
    """
    env = _read_environment(device)
    _CHATTER.install()
    if env.device.type == "cuda":
        torch.cuda.set_device(env.device)
    else:
        share_cores(env.local_world_size)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        _end_with_the_agent()
    meeting = meet(env.rank, env.world_size, start_seconds) if env.world_size > 1 and rendezvous == "env://" else None
    try:
        _init(env, meeting, rendezvous, start_seconds)
        yield env
    except BaseException as error:
        if meeting is not None:
            meeting.post(error)  # before the others' connections break
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _init(env: Environment, meeting: Meeting | None, rendezvous: str, start_seconds: float) -> None:
    backend = "nccl" if env.device.type == "cuda" else "gloo"
    size: dict[str, Any] = {"rank": env.rank, "world_size": env.world_size}
    if meeting is None:
        if env.world_size > 1:
            dist.init_process_group(backend, rendezvous, timeout=COLLECTIVE_TIMEOUT, **size)
        else:
            dist.init_process_group(backend, store=dist.HashStore(), timeout=COLLECTIVE_TIMEOUT, **size)
        return
    limit = timedelta(seconds=start_seconds)
    try:
        meeting.raw.set_timeout(limit)
        dist.init_process_group(backend, store=meeting.store, timeout=limit, **size)
    except RuntimeError as error:
        raise InputError(
            f"all {env.world_size} ranks are there, but rank {env.rank} ({socket.gethostname()}) cannot connect to every other "
            f"({str(error).splitlines()[0]}): has one ended, or does a firewall or GLOO_SOCKET_IFNAME keep them apart?"
        ) from None
    meeting.raw.set_timeout(COLLECTIVE_TIMEOUT)
    dist.distributed_c10d._set_pg_timeout(COLLECTIVE_TIMEOUT)


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
    rank, world_size, local_rank, local_world_size = (_whole_number(n, d) for n, d in zip(names, "0101", strict=True))
    _check_sizes(rank, world_size, local_rank, local_world_size)
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


def _whole_number(name: str, default: str) -> int:
    text = os.environ.get(name, default)
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise InputError(
            f"environment variable {name} is {text!r}; it must be a whole number of 0 or more: start with torchrun"
        )
    return int(text)


def _check_sizes(rank: int, world_size: int, local_rank: int, local_world_size: int) -> None:
    for name, value, size_name, size in (
        ("RANK", rank, "WORLD_SIZE", world_size),
        ("LOCAL_RANK", local_rank, "LOCAL_WORLD_SIZE", local_world_size),
    ):
        if value >= size:
            raise InputError(
                f"environment variable {name} is {value}, but {size_name} is {size}: ranks are 0 to {size_name} - 1. Start with torchrun"
            )
    if local_world_size > world_size:
        raise InputError(
            f"LOCAL_WORLD_SIZE (processes of this host) is {local_world_size}, but WORLD_SIZE (of the job) is {world_size}: start with "
            "torchrun"
        )
