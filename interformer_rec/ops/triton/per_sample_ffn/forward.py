"""Per-sample FFN: tokens (J, d) and each sample's matrices (B, d, r), (B, r, d) come in; the tokens it made go out.

    plain       y = gelu(x W1_i) W2_i + residual
    production  y = rms(rms(gelu(x W1_i), gain1) W2_i, gain2) + residual

One pass: the inner tokens live in registers, `step` columns of r at a time. The inner norm is a factor a row, so it is applied
after the second product, once the sum of squares is complete. Never run on a GPU yet.
"""

# mypy: disable-error-code="no-untyped-def, valid-type, attr-defined"
from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from interformer_rec.ops.triton.activation import gelu
from interformer_rec.ops.triton.launch import Blocks, check, hopper, launch, precision, require, rows_contiguous
from interformer_rec.ops.triton.tiles import dot, load_tile, locate, store_tile, tiles

EPS = 1e-6


class Saved(NamedTuple):
    """What the production form's backward needs: the tokens after W2 (J, d), the inner factors 1 / rms (J,) in float32."""

    inner_JD: Tensor
    factor_J: Tensor


def ffn_blocks(width: int, rank: int, dtype: torch.dtype, device: torch.device) -> Blocks:
    """The default cut: `rows` tokens a tile, `step` columns of r at a time."""
    step = min(max(16, triton.next_power_of_2(rank)), 32 if width > 128 or dtype == torch.float32 else 64)
    if dtype == torch.float32:
        return Blocks(32, step, 4, 1)
    return Blocks(128 if width <= 64 or (width <= 128 and hopper(device)) else 64, step, 8, 2)


@triton.jit(do_not_specialize=["samples"])
def ffn_forward_kernel(x, w1, w2, gain1, gain2, residual, out, inner, factor, offsets, samples, x_row, residual_row,
                       eps, D: tl.constexpr, R: tl.constexpr, BLOCK_D: tl.constexpr, ROWS: tl.constexpr,
                       STEP: tl.constexpr, NORMED: tl.constexpr, RESIDUAL: tl.constexpr,
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
    squares = tl.zeros((ROWS,), tl.float32)
    for low in range(0, R, STEP):
        r = low + tl.arange(0, STEP)
        w1_tile = load_tile(w1, column, R, D, r, R, BLOCK_D != D, R % STEP != 0)
        a = gelu(dot(x_tile, w1_tile, tl.zeros((ROWS, STEP), tl.float32), PRECISION))
        if NORMED:
            squares += tl.sum(a * a, 1)
            a *= tl.load(gain1 + r, mask=r < R, other=0.0).to(tl.float32)[None, :]
        w2_tile = load_tile(w2, r, D, R, column, D, R % STEP != 0, BLOCK_D != D)
        acc = dot(a.to(w2_tile.dtype), w2_tile, acc, PRECISION)
    if NORMED:
        scale = tl.rsqrt(squares / R + eps)
        tl.store(factor + start + rows, scale, mask=rows < length)
        acc *= scale[:, None]
        store_tile(inner + start * D, rows, D, length, column, D, acc)
        gain = tl.load(gain2 + column, mask=column < D, other=0.0).to(tl.float32)
        acc = acc * tl.rsqrt(tl.sum(acc * acc, 1) / D + eps)[:, None] * gain[None, :]
    if RESIDUAL:
        residual += start * residual_row
        acc += load_tile(residual, rows, residual_row, length, column, D, True, BLOCK_D != D).to(tl.float32)
    store_tile(out + start * D, rows, D, length, column, D, acc)


def per_sample_ffn_forward(
    values_JD: Tensor,
    w1_BDR: Tensor,
    w2_BRD: Tensor,
    offsets_B1: Tensor,
    gains: tuple[Tensor, Tensor] | None = None,
    residual_JD: Tensor | None = None,
    *,
    eps: float = EPS,
    blocks: Blocks | None = None,
) -> tuple[Tensor, Saved | None]:
    """-> (J, d), and with gains ((r,), (d,): the production form) what its backward needs.

    Raises InputError where shapes or dtypes do not fit.
    """
    require("per-sample FFN", values=values_JD, w1=w1_BDR, w2=w2_BRD, residual=residual_JD)
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
    residual = values if residual_JD is None else rows_contiguous(residual_JD)
    out = torch.empty(rows, width, dtype=values.dtype, device=values.device)
    saved = None
    if gains is not None:
        saved = Saved(torch.empty_like(out), torch.empty(rows, dtype=torch.float32, device=values.device))
    gain1, gain2 = gains or (values, values)
    cut = blocks or ffn_blocks(width, rank, values.dtype, values.device)
    launch(
        ffn_forward_kernel,
        (tiles(rows, samples, cut.rows) if rows else 0,),
        *(values, w1_BDR.contiguous(), w2_BRD.contiguous(), gain1, gain2, residual, out, *(saved or (out, out))),
        *(offsets_B1, samples, values.stride(0), residual.stride(0), eps),
        D=width,
        R=rank,
        BLOCK_D=max(16, triton.next_power_of_2(width)),
        ROWS=cut.rows,
        STEP=cut.step,
        NORMED=gains is not None,
        RESIDUAL=residual_JD is not None,
        PRECISION=precision(values.dtype),
        warps=cut.warps,
        stages=cut.stages,
    )
    return out, saved
