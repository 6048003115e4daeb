"""Gradients of forward.py: its inputs, what it saved and the output's gradient come in; dx, dW1, dW2, dgains go out.

Two kernels, each owning what it writes, so no atomics: dx of a tile of tokens, then dW1 and dW2 of a sample and `step` columns of r
over all its tokens. Both make the inner tokens again instead of reading them. Never run on a GPU yet.

With h = x W1, a = gelu(h), n = a f1 gain1, z = n W2, y = z f2 gain2 (f1 and f2 the norms' factors, of a and of z):
    dz = f2 (dy gain2) - z f2^3 / d (dy gain2 . z)
    da = f1 gain1 (dz W2^T) - a f1^2 / r (dz . z), because dn . n = dz . z: so no second pass over r is needed
"""

# mypy: disable-error-code="no-untyped-def, valid-type, attr-defined"
from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from interformer_rec.ops.triton.activation import gelu, gelu_slope
from interformer_rec.ops.triton.launch import Blocks, hopper, launch, precision, rows_contiguous
from interformer_rec.ops.triton.per_sample_ffn.forward import EPS, Saved
from interformer_rec.ops.triton.tiles import dot, load_tile, locate, store_tile, tiles


def ffn_backward_blocks(width: int, rank: int, dtype: torch.dtype, device: torch.device) -> tuple[Blocks, Blocks]:
    """(tokens, weights): the default cuts, without spills. The weights' kernel keeps two sums of d x step in registers."""
    half, new = dtype != torch.float32, hopper(device)
    step = min(max(16, triton.next_power_of_2(rank)), 64 if half and width <= 128 else 32)
    if not half:
        return Blocks(32, step, 4, 1), Blocks(32, min(step, 16), 4, 1)
    tokens = Blocks(64, step, 8, 2)
    if width <= 128:
        return tokens, Blocks(64 if new and width <= 64 else 32, step, 8, 2)
    return tokens, Blocks(32 if new else 16, step, 8, 1)


@triton.jit
def norm_backward(grad, inner, gain2, start, rows, length, column, eps, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """-> dz (ROWS, BLOCK_D), dz . z (ROWS,), the tile's part of dgain2 (BLOCK_D,), all float32."""
    z = load_tile(inner + start * D, rows, D, length, column, D, True, BLOCK_D != D).to(tl.float32)
    factor = tl.rsqrt(tl.sum(z * z, 1) / D + eps)
    gain = tl.load(gain2 + column, mask=column < D, other=0.0).to(tl.float32)
    dgain = tl.sum(grad * z * factor[:, None], 0)
    grad = grad * gain[None, :]
    along = tl.sum(grad * z, 1) * factor * factor * factor / D
    dz = grad * factor[:, None] - z * along[:, None]
    return dz, tl.sum(dz * z, 1), dgain


@triton.jit(do_not_specialize=["samples"])
def ffn_tokens_kernel(x, w1, w2, gain1, gain2, grad, inner, factor, dx, dz, along, dgain2, offsets, samples, x_row,
                      grad_row, eps, D: tl.constexpr, R: tl.constexpr, BLOCK_D: tl.constexpr, ROWS: tl.constexpr,
                      STEP: tl.constexpr, NORMED: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """One program: dx of a tile of one sample's tokens; production form: also dz, dz . z and the tile's part of dgain2."""
    tile = tl.program_id(0)
    sample, start, length, first = locate(offsets, tile, samples, ROWS)
    rows = first + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK_D)
    grad_tile = load_tile(grad + start * grad_row, rows, grad_row, length, column, D, True, BLOCK_D != D)
    if NORMED:
        dz_tile, product, part = norm_backward(grad_tile.to(tl.float32), inner, gain2, start, rows, length, column,
                                               eps, D, BLOCK_D)  # fmt: skip
        tl.store(dgain2 + tile.to(tl.int64) * D + column, part, mask=column < D)  # zeros from a tile without rows
        tl.store(along + start + rows, product, mask=rows < length)
        grad_tile = dz_tile.to(x.dtype.element_ty)
        store_tile(dz + start * D, rows, D, length, column, D, grad_tile)
        scale = tl.load(factor + start + rows, mask=rows < length, other=0.0)
        inner_along = scale * scale * product / R
    if first >= length:
        return
    x_tile = load_tile(x + start * x_row, rows, x_row, length, column, D, True, BLOCK_D != D)
    w1 += sample.to(tl.int64) * D * R
    w2 += sample.to(tl.int64) * D * R
    acc = tl.zeros((ROWS, BLOCK_D), tl.float32)
    for low in range(0, R, STEP):
        r = low + tl.arange(0, STEP)
        none = tl.zeros((ROWS, STEP), tl.float32)
        w1_tile = load_tile(w1, column, R, D, r, R, BLOCK_D != D, R % STEP != 0)
        h = dot(x_tile, w1_tile, none, PRECISION)
        w2_tile = load_tile(w2, r, D, R, column, D, R % STEP != 0, BLOCK_D != D)
        da = dot(grad_tile, tl.trans(w2_tile), none, PRECISION)
        if NORMED:
            gain = tl.load(gain1 + r, mask=r < R, other=0.0).to(tl.float32)
            da = da * gain[None, :] * scale[:, None] - gelu(h) * inner_along[:, None]
        acc = dot((da * gelu_slope(h)).to(x_tile.dtype), tl.trans(w1_tile), acc, PRECISION)
    store_tile(dx + start * D, rows, D, length, column, D, acc)


@triton.jit
def ffn_weights_kernel(x, w1, w2, gain1, dz, factor, along, dw1, dw2, dgain1, offsets, x_row, dz_row, D: tl.constexpr,
                       R: tl.constexpr, BLOCK_D: tl.constexpr, ROWS: tl.constexpr, STEP: tl.constexpr,
                       NORMED: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """One program: dW1 and dW2 (production form: and the sample's part of dgain1) for STEP columns of r of one sample."""
    r = tl.program_id(0) * STEP + tl.arange(0, STEP)
    sample = tl.program_id(1).to(tl.int64)
    start = tl.load(offsets + sample).to(tl.int64)
    length = (tl.load(offsets + sample + 1) - start).to(tl.int32)
    column = tl.arange(0, BLOCK_D)
    w1_tile = load_tile(w1 + sample * D * R, column, R, D, r, R, BLOCK_D != D, R % STEP != 0)
    w2_tile = load_tile(w2 + sample * D * R, r, D, R, column, D, R % STEP != 0, BLOCK_D != D)
    sum1 = tl.zeros((BLOCK_D, STEP), tl.float32)
    sum2 = tl.zeros((STEP, BLOCK_D), tl.float32)
    if NORMED:
        gain = tl.load(gain1 + r, mask=r < R, other=0.0).to(tl.float32)
        sum_gain = tl.zeros((STEP,), tl.float32)
    for first in range(0, length, ROWS):
        rows = first + tl.arange(0, ROWS)
        none = tl.zeros((ROWS, STEP), tl.float32)
        x_tile = load_tile(x + start * x_row, rows, x_row, length, column, D, True, BLOCK_D != D)
        h = dot(x_tile, w1_tile, none, PRECISION)
        dz_tile = load_tile(dz + start * dz_row, rows, dz_row, length, column, D, True, BLOCK_D != D)
        da = dot(dz_tile, tl.trans(w2_tile), none, PRECISION)
        n = gelu(h)
        if NORMED:
            scale = tl.load(factor + start + rows, mask=rows < length, other=0.0)
            product = tl.load(along + start + rows, mask=rows < length, other=0.0)
            sum_gain += tl.sum(da * n * scale[:, None], 0)
            da = da * gain[None, :] * scale[:, None] - n * (scale * scale * product / R)[:, None]
            n = n * gain[None, :] * scale[:, None]
        sum1 = dot(tl.trans(x_tile), (da * gelu_slope(h)).to(x_tile.dtype), sum1, PRECISION)
        sum2 = dot(tl.trans(n.to(dz_tile.dtype)), dz_tile, sum2, PRECISION)
    store_tile(dw1 + sample * D * R, column, R, D, r, R, sum1)
    store_tile(dw2 + sample * D * R, r, D, R, column, D, sum2)
    if NORMED:
        tl.store(dgain1 + sample * R + r, sum_gain, mask=r < R)


def per_sample_ffn_backward(
    grad_JD: Tensor,
    values_JD: Tensor,
    w1_BDR: Tensor,
    w2_BRD: Tensor,
    offsets_B1: Tensor,
    gains: tuple[Tensor, Tensor] | None = None,
    saved: Saved | None = None,
    *,
    eps: float = EPS,
    blocks: tuple[Blocks, Blocks] | None = None,
) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor] | None]:
    """Gradients of the values (J, d), W1 (B, d, r), W2 (B, r, d) and, in the production form, of the gains ((r,), (d,)).

    The residual's gradient is `grad` itself.
    """
    (rows, width), (samples, _, rank) = values_JD.shape, w1_BDR.shape
    values, grad, w1, w2 = (
        rows_contiguous(values_JD),
        rows_contiguous(grad_JD),
        w1_BDR.contiguous(),
        w2_BRD.contiguous(),
    )
    gain1, gain2 = gains or (values, values)
    token_cut, weight_cut = blocks or ffn_backward_blocks(width, rank, values.dtype, values.device)
    grid = tiles(rows, samples, token_cut.rows) if rows else 0
    dx, dw1, dw2 = torch.empty_like(values), torch.empty_like(w1), torch.empty_like(w2)
    single = functools.partial(torch.empty, dtype=torch.float32, device=values.device)
    if saved is None:
        dz, along, dgain1, dgain2, inner, factor = grad, dx, dx, dx, dx, dx
    else:
        dz, along, (inner, factor) = torch.empty_like(dx), single(rows), saved
        dgain1, dgain2 = single(samples, rank), single(grid, width)
    fixed = {"D": width, "R": rank, "BLOCK_D": max(16, triton.next_power_of_2(width)), "NORMED": saved is not None}
    fixed["PRECISION"] = precision(values.dtype)
    launch(
        ffn_tokens_kernel,
        (grid,),
        *(values, w1, w2, gain1, gain2, grad, inner, factor, dx, dz, along, dgain2, offsets_B1, samples),
        *(values.stride(0), grad.stride(0), eps),
        **fixed | {"ROWS": token_cut.rows, "STEP": token_cut.step},
        warps=token_cut.warps,
        stages=token_cut.stages,
    )
    launch(
        ffn_weights_kernel,
        (triton.cdiv(rank, weight_cut.step), samples),
        *(values, w1, w2, gain1, dz, factor, along, dw1, dw2, dgain1, offsets_B1, values.stride(0), dz.stride(0)),
        **fixed | {"ROWS": weight_cut.rows, "STEP": weight_cut.step},
        warps=weight_cut.warps,
        stages=weight_cut.stages,
    )
    if gains is None:
        return dx, dw1, dw2, None
    return dx, dw1, dw2, (dgain1.sum(0).to(gain1.dtype), dgain2.sum(0).to(gain2.dtype))
