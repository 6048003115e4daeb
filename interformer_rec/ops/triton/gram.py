"""DOT: tokens (B, n, d) come in; the inner products of all pairs of different tokens go out, packed: (B, n (n - 1) / 2).

In the order of torch.triu_indices(n, n, offset=1), as model/interactions/dot.py takes them: (0, 1), (0, 2), ... The full n x n
matrix never exists in memory, nor in the backward. Never run on a GPU yet.
"""

# mypy: disable-error-code="no-untyped-def, valid-type, attr-defined"
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from interformer_rec.ops.triton.launch import DTYPES, check, launch, precision
from interformer_rec.ops.triton.tiles import dot, load_tile, store_tile


@triton.jit
def pair_index(i, j, N: tl.constexpr):
    """Place of the pair (i, j), i < j, in the packed order."""
    return i * N - i * (i + 1) // 2 + j - i - 1


@triton.jit
def gram_forward_kernel(x, out, scale, N: tl.constexpr, D: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
                        PRECISION: tl.constexpr):  # fmt: skip
    """One program: one sample, one block of pairs on or above the diagonal."""
    sample = tl.program_id(0).to(tl.int64)
    low, high = tl.program_id(1), tl.program_id(2)
    if high < low:
        return
    i = low * BLOCK_N + tl.arange(0, BLOCK_N)
    j = high * BLOCK_N + tl.arange(0, BLOCK_N)
    column = tl.arange(0, BLOCK_D)
    x += sample * N * D
    first = load_tile(x, i, D, N, column, D, True, BLOCK_D != D)
    second = load_tile(x, j, D, N, column, D, True, BLOCK_D != D)
    products = dot(first, tl.trans(second), tl.zeros((BLOCK_N, BLOCK_N), tl.float32), PRECISION) * scale
    inside = (i[:, None] < j[None, :]) & (j[None, :] < N)
    out += sample * (N * (N - 1) // 2)
    tl.store(out + pair_index(i[:, None], j[None, :], N), products.to(out.dtype.element_ty), mask=inside)


@triton.jit
def gram_backward_kernel(x, grad, dx, scale, N: tl.constexpr, D: tl.constexpr, BLOCK_N: tl.constexpr,
                         BLOCK_D: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """One program: one sample, a block of tokens: dx_i = scale * sum over j of grad of the pair {i, j} times x_j."""
    sample = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    column = tl.arange(0, BLOCK_D)
    grad += sample * (N * (N - 1) // 2)
    acc = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    for block in range(0, tl.cdiv(N, BLOCK_N)):
        j = block * BLOCK_N + tl.arange(0, BLOCK_N)
        low = tl.minimum(i[:, None], j[None, :])
        high = tl.maximum(i[:, None], j[None, :])
        pair = tl.load(grad + pair_index(low, high, N), mask=(low < high) & (high < N), other=0.0)
        x_tile = load_tile(x + sample * N * D, j, D, N, column, D, True, BLOCK_D != D)
        acc = dot(pair.to(x_tile.dtype), x_tile, acc, PRECISION)
    store_tile(dx + sample * N * D, i, D, N, column, D, acc * scale)


def _block(tokens: int) -> int:
    return min(64, max(16, triton.next_power_of_2(tokens)))


def gram_forward(x_BND: Tensor, scale: float = 1.0) -> Tensor:
    """(B, n, d) -> (B, n (n - 1) / 2): scale * x_i . x_j for i < j. Raises InputError for d above 256."""
    samples, tokens, width = x_BND.shape
    check(
        width <= 256 and x_BND.dtype in DTYPES,
        lambda: (
            f"DOT: tokens {tuple(x_BND.shape)} of {x_BND.dtype}; the kernel takes a width of at most 256 in float32, bfloat16 or "
            "float16: change model.d or the precision"
        ),
    )
    out = x_BND.new_empty(samples, tokens * (tokens - 1) // 2)
    block = _block(tokens)
    blocks = triton.cdiv(tokens, block)
    launch(
        gram_forward_kernel,
        (samples, blocks, blocks),
        *(x_BND.contiguous(), out, scale),
        N=tokens,
        D=width,
        BLOCK_N=block,
        BLOCK_D=max(16, triton.next_power_of_2(width)),
        PRECISION=precision(x_BND.dtype),
    )
    return out


def gram_backward(grad_BP: Tensor, x_BND: Tensor, scale: float = 1.0) -> Tensor:
    """The tokens' gradient (B, n, d)."""
    samples, tokens, width = x_BND.shape
    dx = torch.empty(x_BND.shape, dtype=x_BND.dtype, device=x_BND.device)
    block = _block(tokens)
    launch(
        gram_backward_kernel,
        (samples, triton.cdiv(tokens, block)),
        *(x_BND.contiguous(), grad_BP.contiguous(), dx, scale),
        N=tokens,
        D=width,
        BLOCK_N=block,
        BLOCK_D=max(16, triton.next_power_of_2(width)),
        PRECISION=precision(x_BND.dtype),
    )
    return dx


class Gram(torch.autograd.Function):
    """apply(x (B, n, d), scale)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float = 1.0) -> Tensor:
        """The packed products."""
        ctx.save_for_backward(x)
        ctx.scale = scale
        return gram_forward(x, scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """The tokens' gradient."""
        (x,) = ctx.saved_tensors
        return gram_backward(grad, x, ctx.scale), None
