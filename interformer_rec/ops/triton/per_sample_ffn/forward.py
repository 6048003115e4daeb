"""Per-sample FFN: tokens (J, d) and each sample's matrices (B, d, r), (B, r, d) come in; the tokens it made go out.

    y = gelu(x W1_i) W2_i

One pass: the inner tokens live in registers, `step` columns of r at a time. Never run on a GPU yet.
"""

# mypy: disable-error-code="no-untyped-def, valid-type, attr-defined"
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from interformer_rec.ops.triton.activation import gelu
from interformer_rec.ops.triton.launch import Blocks, check, hopper, launch, precision, require, rows_contiguous
from interformer_rec.ops.triton.tiles import dot, load_tile, locate, store_tile, tiles


def ffn_blocks(width: int, rank: int, dtype: torch.dtype, device: torch.device) -> Blocks:
    """The cut: `rows` tokens a tile, `step` columns of r at a time."""
    step = min(max(16, triton.next_power_of_2(rank)), 32 if width > 128 or dtype == torch.float32 else 64)
    if dtype == torch.float32:
        return Blocks(32, step, 4, 1)
    return Blocks(128 if width <= 64 or (width <= 128 and hopper(device)) else 64, step, 8, 2)


@triton.jit(do_not_specialize=["samples"])
def ffn_forward_kernel(x, w1, w2, out, offsets, samples, x_row, D: tl.constexpr, R: tl.constexpr,
                       BLOCK_D: tl.constexpr, ROWS: tl.constexpr, STEP: tl.constexpr,
                       PRECISION: tl.constexpr):  # fmt: skip
    """One program: a tile of one sample's tokens."""
    sample, start, length, first = locate(offsets, tl.program_id(0), samples, ROWS)
    if first >= length:
        return
    rows = first + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK_D)
    x_tile = load_tile(x + start * x_row, rows, x_row, length, column, D, True, BLOCK_D != D)
    w1 += sample.to(tl.int64) * D * R
    w2 += sample.to(tl.int64) * D * R
    acc = tl.zeros((ROWS, BLOCK_D), tl.float32)
    for low in range(0, R, STEP):
        r = low + tl.arange(0, STEP)
        w1_tile = load_tile(w1, column, R, D, r, R, BLOCK_D != D, R % STEP != 0)
        a = gelu(dot(x_tile, w1_tile, tl.zeros((ROWS, STEP), tl.float32), PRECISION))
        w2_tile = load_tile(w2, r, D, R, column, D, R % STEP != 0, BLOCK_D != D)
        acc = dot(a.to(w2_tile.dtype), w2_tile, acc, PRECISION)
    store_tile(out + start * D, rows, D, length, column, D, acc)


def per_sample_ffn_forward(values_JD: Tensor, w1_BDR: Tensor, w2_BRD: Tensor, offsets_B1: Tensor) -> Tensor:
    """-> (J, d). Raises InputError where shapes or dtypes do not fit."""
    require("per-sample FFN", values=values_JD, w1=w1_BDR, w2=w2_BRD)
    rows, width = values_JD.shape
    samples, rank = offsets_B1.numel() - 1, w1_BDR.shape[2]
    check(
        w1_BDR.shape == (samples, width, rank) and w2_BRD.shape == (samples, rank, width) and width <= 256,
        lambda: (
            f"per-sample FFN: weights {tuple(w1_BDR.shape)} and {tuple(w2_BRD.shape)} for values {tuple(values_JD.shape)} of "
            f"{samples} samples; they have to be (B, d, r) and (B, r, d) with d at most 256: change model.d"
        ),
    )
    values = rows_contiguous(values_JD)
    out = torch.empty(rows, width, dtype=values.dtype, device=values.device)
    cut = ffn_blocks(width, rank, values.dtype, values.device)
    launch(
        ffn_forward_kernel,
        (tiles(rows, samples, cut.rows) if rows else 0,),
        *(values, w1_BDR.contiguous(), w2_BRD.contiguous(), out, offsets_B1, samples, values.stride(0)),
        D=width,
        R=rank,
        BLOCK_D=max(16, triton.next_power_of_2(width)),
        ROWS=cut.rows,
        STEP=cut.step,
        PRECISION=precision(values.dtype),
        warps=cut.warps,
        stages=cut.stages,
    )
    return out
