"""A kernel, its grid and its arguments come in; the kernel runs, or the launch is written down for a compile without a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from interformer_rec.errors import InputError

INTERPRETED: bool = bool(triton.knobs.runtime.interpret)  # TRITON_INTERPRET=1 before triton was imported: runs on a CPU
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
PERSISTENT = 4  # programs a multiprocessor that a grid-stride kernel starts; each leaves one row of partial sums


class Blocks(NamedTuple):
    """How a kernel is cut: rows of its tile, rows of a step of its loop, warps a program, stages of the load pipeline."""

    rows: int
    step: int
    warps: int
    stages: int


@dataclass(frozen=True)
class Launch:
    """One launch: the arguments by the kernel's own names, tensors and numbers first, compile-time constants apart."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    constants: dict[str, Any]
    warps: int
    stages: int


class Paper(NamedTuple):
    """Where launches are written down, and the compute capability (80, 90 or 100) they are cut for."""

    capability: int
    launches: list[Launch]


_paper: ContextVar[Paper | None] = ContextVar("paper", default=None)


@contextmanager
def written_down(capability: int) -> Iterator[list[Launch]]:
    """Within the block nothing runs; the list fills with the launches. Meta tensors will do."""
    paper = Paper(capability, [])
    token = _paper.set(paper)
    try:
        yield paper.launches
    finally:
        _paper.reset(token)


def hopper(device: torch.device) -> bool:
    """Whether kernels are cut for compute capability 9.0 and later (more shared memory, wgmma), not for 8.0."""
    paper = _paper.get()
    if paper is not None:
        return paper.capability >= 90
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= (9, 0)


def launch(
    kernel: Any, grid: tuple[int, ...], *arguments: Any, warps: int = 4, stages: int = 2, **constants: Any
) -> None:
    """Run `kernel` on the device of its first tensor. A grid without programs runs nothing."""
    if 0 in grid:
        return
    paper = _paper.get()
    if paper is not None:
        names = dict(zip(kernel.arg_names, arguments, strict=False))
        paper.launches.append(Launch(kernel, grid, names, constants, warps, stages))
        return
    device = next(x.device for x in arguments if isinstance(x, Tensor))
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        kernel[grid](*arguments, **options(warps, stages), **constants)


def options(warps: int, stages: int) -> dict[str, int]:
    """Options of the compiler beside the kernel: the same here and in compiled.py. a * b + c may be one operation."""
    return {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True}


def programs(device: torch.device) -> int:
    """Programs that a grid-stride kernel starts; a fixed number a device, so that sums are made in a fixed order."""
    if device.type != "cuda":
        return 4 if INTERPRETED else PERSISTENT * 132
    return PERSISTENT * torch.cuda.get_device_properties(device).multi_processor_count


def precision(dtype: torch.dtype) -> str:
    """How tl.dot multiplies float32: as torch.set_float32_matmul_precision says, "highest" by three tf32 products.

    True float32 products use no tensor cores, and compile for minutes. Half precision has one way.
    """
    if dtype != torch.float32 or torch.get_float32_matmul_precision() != "highest":
        return "tf32"
    return "tf32x3"


def require(what: str, **tensors: Tensor | None) -> None:
    """InputError unless all tensors share a device and a dtype that the kernels know."""
    given = {name: x for name, x in tensors.items() if x is not None}
    kinds = {(x.device, x.dtype) for x in given.values()}
    if len(kinds) != 1 or next(iter(kinds))[1] not in DTYPES:
        listed = ", ".join(f"{name} {x.dtype} on {x.device}" for name, x in given.items())
        raise InputError(
            f"{what}: the Triton kernels take tensors of one dtype (float32, bfloat16 or float16) on one device, not "
            f"{listed}; convert them, or use the plain operator in interformer_rec/ops"
        )


def rows_contiguous(x: Tensor) -> Tensor:
    """x itself where its last axis is contiguous, else a contiguous copy."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def check(condition: bool, message: Callable[[], str]) -> None:
    """InputError with the message unless the condition holds."""
    if not condition:
        raise InputError(message())
