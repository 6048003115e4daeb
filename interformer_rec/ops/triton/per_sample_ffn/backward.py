"""Gradients of forward.py: its inputs and the output's gradient come in; dx, dW1 and dW2 go out.

Two kernels, each owning what it writes, so no atomics: dx of a tile of tokens, then dW1 and dW2 of a sample and `step` columns of r
over all its tokens. Both make the inner tokens again instead of reading them. Never run on a GPU yet.
"""

# mypy: disable-error-code="no-untyped-def, valid-type, attr-defined"
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from interformer_rec.ops.triton.activation import gelu, gelu_slope
from interformer_rec.ops.triton.launch import Blocks, hopper, launch, precision, rows_contiguous
from interformer_rec.ops.triton.tiles import dot, load_tile, locate, store_tile, tiles


def ffn_backward_blocks(width: int, rank: int, dtype: torch.dtype, device: torch.device) -> tuple[Blocks, Blocks]:
    """(tokens, weights): the cuts, without spills. The weights' kernel keeps two sums of d x step in registers."""
    half, new = dtype != torch.float32, hopper(device)
    step = min(max(16, triton.next_power_of_2(rank)), 64 if half and width <= 128 else 32)
    if not half:
        return Blocks(32, step, 4, 1), Blocks(32, min(step, 16), 4, 1)
    tokens = Blocks(64, step, 8, 2)
    if width <= 128:
        return tokens, Blocks(64 if new and width <= 64 else 32, step, 8, 2)
    return tokens, Blocks(32 if new else 16, step, 8, 1)


@triton.jit(do_not_specialize=["samples"])
def ffn_tokens_kernel(x, w1, w2, grad, dx, offsets, samples, x_row, grad_row, D: tl.constexpr, R: tl.constexpr,
                      BLOCK_D: tl.constexpr, ROWS: tl.constexpr, STEP: tl.constexpr,
                      PRECISION: tl.constexpr):  # fmt: skip
    """One program: dx of a tile of one sample's tokens."""
    sample, start, length, first = locate(offsets, tl.program_id(0), samples, ROWS)
    rows = first + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK_D)
    grad_tile = load_tile(grad + start * grad_row, rows, grad_row, length, column, D, True, BLOCK_D != D)
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
        acc = dot((da * gelu_slope(h)).to(x_tile.dtype), tl.trans(w1_tile), acc, PRECISION)
    store_tile(dx + start * D, rows, D, length, column, D, acc)


@triton.jit
def ffn_weights_kernel(x, w1, w2, grad, dw1, dw2, offsets, x_row, grad_row, D: tl.constexpr, R: tl.constexpr,
                       BLOCK_D: tl.constexpr, ROWS: tl.constexpr, STEP: tl.constexpr,
                       PRECISION: tl.constexpr):  # fmt: skip
    """One program: dW1 and dW2 for STEP columns of r of one sample."""
    r = tl.program_id(0) * STEP + tl.arange(0, STEP)
    sample = tl.program_id(1).to(tl.int64)
    start = tl.load(offsets + sample).to(tl.int64)
    length = (tl.load(offsets + sample + 1) - start).to(tl.int32)
    column = tl.arange(0, BLOCK_D)
    w1_tile = load_tile(w1 + sample * D * R, column, R, D, r, R, BLOCK_D != D, R % STEP != 0)
    w2_tile = load_tile(w2 + sample * D * R, r, D, R, column, D, R % STEP != 0, BLOCK_D != D)
    sum1 = tl.zeros((BLOCK_D, STEP), tl.float32)
    sum2 = tl.zeros((STEP, BLOCK_D), tl.float32)
    for first in range(0, length, ROWS):
        rows = first + tl.arange(0, ROWS)
        none = tl.zeros((ROWS, STEP), tl.float32)
        x_tile = load_tile(x + start * x_row, rows, x_row, length, column, D, True, BLOCK_D != D)
        h = dot(x_tile, w1_tile, none, PRECISION)
        grad_tile = load_tile(grad + start * grad_row, rows, grad_row, length, column, D, True, BLOCK_D != D)
        da = dot(grad_tile, tl.trans(w2_tile), none, PRECISION)
        sum1 = dot(tl.trans(x_tile), (da * gelu_slope(h)).to(x_tile.dtype), sum1, PRECISION)
        sum2 = dot(tl.trans(gelu(h).to(grad_tile.dtype)), grad_tile, sum2, PRECISION)
    store_tile(dw1 + sample * D * R, column, R, D, r, R, sum1)
    store_tile(dw2 + sample * D * R, r, D, R, column, D, sum2)


def per_sample_ffn_backward(
    grad_JD: Tensor, values_JD: Tensor, w1_BDR: Tensor, w2_BRD: Tensor, offsets_B1: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the values (J, d), W1 (B, d, r) and W2 (B, r, d)."""
    (rows, width), (samples, _, rank) = values_JD.shape, w1_BDR.shape
    values, grad = rows_contiguous(values_JD), rows_contiguous(grad_JD)
    w1, w2 = w1_BDR.contiguous(), w2_BRD.contiguous()
    token_cut, weight_cut = ffn_backward_blocks(width, rank, values.dtype, values.device)
    dx, dw1, dw2 = torch.empty_like(values), torch.empty_like(w1), torch.empty_like(w2)
    fixed = {"D": width, "R": rank, "BLOCK_D": max(16, triton.next_power_of_2(width))}
    fixed["PRECISION"] = precision(values.dtype)
    launch(
        ffn_tokens_kernel,
        (tiles(rows, samples, token_cut.rows) if rows else 0,),
        *(values, w1, w2, grad, dx, offsets_B1, samples, values.stride(0), grad.stride(0)),
        **fixed | {"ROWS": token_cut.rows, "STEP": token_cut.step},
        warps=token_cut.warps,
        stages=token_cut.stages,
    )
    launch(
        ffn_weights_kernel,
        (triton.cdiv(rank, weight_cut.step), samples),
        *(values, w1, w2, grad, dw1, dw2, offsets_B1, values.stride(0), grad.stride(0)),
        **fixed | {"ROWS": weight_cut.rows, "STEP": weight_cut.step},
        warps=weight_cut.warps,
        stages=weight_cut.stages,
    )
    return dx, dw1, dw2
