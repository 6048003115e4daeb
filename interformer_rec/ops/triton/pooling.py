"""PMA pooling: K maps (K, d) and jagged tokens (J, d) come in; each sample's K weighted sums of its events (B, K, d) go out.

    out_k = sum over the events t of softmax_t(maps_k . x_t) x_t; CLS tokens (a sample's first `cls`) take no part

No event: zeros, and a zero gradient. The tokens are read once forward and once backward; sums in float32. The gradient of the
maps is summed by each program for itself and then over programs, in a fixed order, without atomics. Never run on a GPU yet.
"""

# mypy: disable-error-code="no-untyped-def, valid-type, attr-defined"
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from interformer_rec.ops.triton.launch import Blocks, check, launch, precision, programs, require, rows_contiguous
from interformer_rec.ops.triton.tiles import dot, load_tile, locate, store_tile, tiles

LOG2E = tl.constexpr(1.4426950408889634)
HIDDEN = tl.constexpr(-1.0e30)


def pool_blocks(width: int, dtype: torch.dtype) -> tuple[Blocks, Blocks]:
    """(forward, backward): the cuts, `step` events at a time and `rows` tokens a tile (compile_report.py)."""
    if width > 128 or dtype == torch.float32:
        return Blocks(32, 64, 4, 2), Blocks(32, 64, 8, 2)
    return (Blocks(64, 128, 4, 2),) * 2


@triton.jit(do_not_specialize=["cls"])
def pool_forward_kernel(maps, values, out, lse, offsets, cls, row_stride, K: tl.constexpr, D: tl.constexpr,
                        BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr, STEP: tl.constexpr,
                        PRECISION: tl.constexpr):  # fmt: skip
    """One program: one sample, all its events, all maps. `lse` (B, K) in base 2."""
    sample = tl.program_id(0).to(tl.int64)
    start = tl.load(offsets + sample).to(tl.int64)
    length = (tl.load(offsets + sample + 1) - start).to(tl.int32)
    k = tl.arange(0, BLOCK_K)
    column = tl.arange(0, BLOCK_D)
    maps_tile = load_tile(maps, k, D, K, column, D, True, BLOCK_D != D)
    acc = tl.zeros((BLOCK_K, BLOCK_D), tl.float32)
    top = tl.full((BLOCK_K,), HIDDEN, tl.float32)
    total = tl.zeros((BLOCK_K,), tl.float32)
    for step in range(0, tl.cdiv(length - cls, STEP)):
        rows = cls + step * STEP + tl.arange(0, STEP)
        x = load_tile(values + start * row_stride, rows, row_stride, length, column, D, True, BLOCK_D != D)
        scores = dot(maps_tile, tl.trans(x), tl.zeros((BLOCK_K, STEP), tl.float32), PRECISION) * LOG2E
        scores = tl.where((rows < length)[None, :], scores, HIDDEN)
        new_top = tl.maximum(top, tl.max(scores, 1))
        weights = tl.exp2(scores - new_top[:, None])
        shrink = tl.exp2(top - new_top)
        total = total * shrink + tl.sum(weights, 1)
        acc = dot(weights.to(x.dtype), x, acc * shrink[:, None], PRECISION)
        top = new_top
    total = tl.where(total > 0.0, total, 1.0)
    tl.store(lse + sample * K + k, top + tl.log2(total), mask=k < K)
    store_tile(out + sample * K * D, k, D, K, column, D, acc / total[:, None])


@triton.jit(do_not_specialize=["samples", "cls", "count"])
def pool_backward_kernel(maps, values, grad, lse, delta, dvalues, dmaps, offsets, samples, cls, count, row_stride,
                         K: tl.constexpr, D: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
                         ROWS: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """One program: every num_programs-th of `count` tiles of tokens; its own sum of the maps' gradient, (programs, K, D)."""
    program = tl.program_id(0)
    k = tl.arange(0, BLOCK_K)
    column = tl.arange(0, BLOCK_D)
    maps_tile = load_tile(maps, k, D, K, column, D, True, BLOCK_D != D)
    sums = tl.zeros((BLOCK_K, BLOCK_D), tl.float32)
    for tile in range(program, count, tl.num_programs(0)):
        sample, start, length, first = locate(offsets, tile, samples, ROWS)
        if first < length:
            rows = first + tl.arange(0, ROWS)
            here = sample.to(tl.int64) * K
            x = load_tile(values + start * row_stride, rows, row_stride, length, column, D, True, BLOCK_D != D)
            g = load_tile(grad + here * D, k, D, K, column, D, True, BLOCK_D != D)
            lse_k = tl.load(lse + here + k, mask=k < K, other=float("inf"))
            delta_k = tl.load(delta + here + k, mask=k < K, other=0.0)
            none = tl.zeros((ROWS, BLOCK_K), tl.float32)
            weights = tl.exp2(dot(x, tl.trans(maps_tile), none, PRECISION) * LOG2E - lse_k[None, :])
            weights = tl.where(((rows >= cls) & (rows < length))[:, None], weights, 0.0)
            ds = weights * (dot(x, tl.trans(g), none, PRECISION) - delta_k[None, :])
            dx = dot(weights.to(x.dtype), g, tl.zeros((ROWS, BLOCK_D), tl.float32), PRECISION)
            dx = dot(ds.to(x.dtype), maps_tile, dx, PRECISION)
            store_tile(dvalues + start * D, rows, D, length, column, D, dx)
            sums = dot(tl.trans(ds.to(x.dtype)), x, sums, PRECISION)
    store_tile(dmaps + program.to(tl.int64) * K * D, k, D, K, column, D, sums)


def attention_pool_forward(
    maps_KD: Tensor, values_JD: Tensor, offsets_B1: Tensor, *, cls: int
) -> tuple[Tensor, Tensor]:
    """-> (B, K, d) in the values' dtype and log-sum-exps (B, K) of base 2, float32, for the backward.

    Raises InputError where dtypes or widths differ.
    """
    require("attention pooling", maps=maps_KD, values=values_JD)
    count, width = maps_KD.shape
    check(
        values_JD.dim() == 2 and values_JD.shape[1] == width and width <= 256 and count <= 256,
        lambda: (
            f"attention pooling: maps {tuple(maps_KD.shape)} for values {tuple(values_JD.shape)}; both have to be at most "
            "256 wide and of the same width, with at most 256 maps: change model.d or the number of PMA tokens"
        ),
    )
    samples = offsets_B1.numel() - 1
    values = rows_contiguous(values_JD)
    out = torch.empty(samples, count, width, dtype=values.dtype, device=values.device)
    lse_BK = torch.empty(samples, count, dtype=torch.float32, device=values.device)
    cut = pool_blocks(width, values.dtype)[0]
    launch(
        pool_forward_kernel,
        (samples,),
        *(maps_KD.contiguous(), values, out, lse_BK, offsets_B1, cls, values.stride(0)),
        K=count,
        D=width,
        BLOCK_K=max(16, triton.next_power_of_2(count)),
        BLOCK_D=max(16, triton.next_power_of_2(width)),
        STEP=cut.step,
        PRECISION=precision(values.dtype),
        warps=cut.warps,
        stages=cut.stages,
    )
    return out, lse_BK


def attention_pool_backward(
    grad_BKD: Tensor,
    maps_KD: Tensor,
    values_JD: Tensor,
    offsets_B1: Tensor,
    out_BKD: Tensor,
    lse_BK: Tensor,
    *,
    cls: int,
) -> tuple[Tensor, Tensor]:
    """Gradients of the maps (K, d) and of the values (J, d); rows of CLS tokens get zeros."""
    count, width = maps_KD.shape
    samples, values = out_BKD.shape[0], rows_contiguous(values_JD)
    grad = grad_BKD.contiguous()
    delta_BK = (grad.float() * out_BKD.float()).sum(-1)
    grad_values = torch.empty(values.shape, dtype=values.dtype, device=values.device)
    cut = pool_blocks(width, values.dtype)[1]
    work = tiles(values.shape[0], samples, cut.rows)
    grid = min(programs(values.device), work)
    sums = torch.empty(grid, count, width, dtype=torch.float32, device=values.device)
    launch(
        pool_backward_kernel,
        (grid,),
        *(maps_KD.contiguous(), values, grad, lse_BK, delta_BK, grad_values, sums, offsets_B1, samples, cls, work),
        values.stride(0),
        K=count,
        D=width,
        BLOCK_K=max(16, triton.next_power_of_2(count)),
        BLOCK_D=max(16, triton.next_power_of_2(width)),
        ROWS=cut.rows,
        PRECISION=precision(values.dtype),
        warps=cut.warps,
        stages=cut.stages,
    )
    return sums.sum(0).to(maps_KD.dtype), grad_values
