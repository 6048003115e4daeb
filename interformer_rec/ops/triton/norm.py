"""RMSNorm: rows (..., d) and a gain (d,) come in; x / sqrt(mean(x^2) + eps) * gain goes out, statistics in float32.

One reading and one writing each way. The gain's gradient is summed by each program for itself and then over programs, in a fixed
order. Same numbers as ops/norm.py. Never run on a GPU yet.
"""

# mypy: disable-error-code="no-untyped-def, valid-type, attr-defined"
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from interformer_rec.ops.triton.launch import launch, programs
from interformer_rec.ops.triton.tiles import load_tile, store_tile

EPS = 1e-6
_ELEMENTS = 4096  # of a tile: 32 a thread


def _rows(block_d: int) -> int:
    return max(1, _ELEMENTS // block_d)


@triton.jit
def rms_norm_forward_kernel(x, gain, out, rows, x_row, eps, D: tl.constexpr, BLOCK_D: tl.constexpr,
                            ROWS: tl.constexpr):  # fmt: skip
    """One program: ROWS rows."""
    first = tl.program_id(0).to(tl.int64) * ROWS
    row = tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK_D)
    x_tile = load_tile(x + first * x_row, row, x_row, rows - first, column, D, True, BLOCK_D != D).to(tl.float32)
    scale = tl.rsqrt(tl.sum(x_tile * x_tile, 1) / D + eps)
    gain_row = tl.load(gain + column, mask=column < D, other=0.0).to(tl.float32)
    store_tile(out + first * D, row, D, rows - first, column, D, x_tile * scale[:, None] * gain_row[None, :])


@triton.jit
def rms_norm_backward_kernel(x, gain, grad, dx, dgain, rows, x_row, grad_row, eps, D: tl.constexpr,
                             BLOCK_D: tl.constexpr, ROWS: tl.constexpr):  # fmt: skip
    """One program: every num_programs-th block of ROWS rows; its own sum of the gain's gradient, (programs, D)."""
    row = tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK_D)
    gain_row = tl.load(gain + column, mask=column < D, other=0.0).to(tl.float32)
    sums = tl.zeros((BLOCK_D,), tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(rows, ROWS), tl.num_programs(0)):
        first = tl.cast(tile, tl.int64) * ROWS
        left = rows - first
        x_tile = load_tile(x + first * x_row, row, x_row, left, column, D, True, BLOCK_D != D).to(tl.float32)
        g = load_tile(grad + first * grad_row, row, grad_row, left, column, D, True, BLOCK_D != D).to(tl.float32)
        scale = tl.rsqrt(tl.sum(x_tile * x_tile, 1) / D + eps)
        sums += tl.sum(g * x_tile * scale[:, None], 0)
        g = g * gain_row[None, :]
        along = tl.sum(g * x_tile, 1) * scale * scale * scale / D
        store_tile(dx + first * D, row, D, left, column, D, g * scale[:, None] - x_tile * along[:, None])
    tl.store(dgain + tl.program_id(0) * D + column, sums, mask=column < D)


def _flat(x: Tensor) -> Tensor:
    """(..., d) -> (rows, d) with a contiguous last axis, a view where that is possible."""
    flat = x.reshape(-1, x.shape[-1])
    return flat if flat.stride(-1) == 1 else flat.contiguous()


def rms_norm_forward(x: Tensor, gain: Tensor, eps: float = EPS) -> Tensor:
    """(..., d) and (d,) -> (..., d), in x's dtype, contiguous."""
    flat, block_d = _flat(x), triton.next_power_of_2(x.shape[-1])
    out = torch.empty(flat.shape, dtype=x.dtype, device=x.device)
    rows = _rows(block_d)
    launch(
        rms_norm_forward_kernel,
        (triton.cdiv(flat.shape[0], rows),),
        *(flat, gain.contiguous(), out, flat.shape[0], flat.stride(0), eps),
        D=x.shape[-1],
        BLOCK_D=block_d,
        ROWS=rows,
    )
    return out.view(x.shape)


def rms_norm_backward(grad: Tensor, x: Tensor, gain: Tensor, eps: float = EPS) -> tuple[Tensor, Tensor]:
    """Gradients of x (..., d) and of the gain (d,)."""
    flat, flat_grad, block_d = _flat(x), _flat(grad), triton.next_power_of_2(x.shape[-1])
    dx = torch.empty(flat.shape, dtype=x.dtype, device=x.device)
    rows = _rows(block_d)
    grid = min(programs(x.device), triton.cdiv(flat.shape[0], rows))
    sums = torch.empty(grid, x.shape[-1], dtype=torch.float32, device=x.device)
    launch(
        rms_norm_backward_kernel,
        (grid,),
        *(flat, gain.contiguous(), flat_grad, dx, sums, flat.shape[0], flat.stride(0), flat_grad.stride(0), eps),
        D=x.shape[-1],
        BLOCK_D=block_d,
        ROWS=rows,
    )
    return dx.view(x.shape), sums.sum(0).to(gain.dtype)


class RMSNorm(torch.autograd.Function):
    """apply(x, gain, eps)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, eps: float = EPS) -> Tensor:
        """The normed rows."""
        ctx.save_for_backward(x, gain)
        ctx.eps = eps
        return rms_norm_forward(x, gain, eps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Gradients of the rows and the gain."""
        x, gain = ctx.saved_tensors
        return *rms_norm_backward(grad, x, gain, ctx.eps), None
