"""Attention inside each sample of a jagged batch: queries, keys, values (J, H, C) come in; outputs and log-sum-exps go out.

Flash attention (Dao 2023): one program keeps a tile of queries and walks over the sample's keys with a running maximum, sums in
float32. Bidirectional. Never run on a GPU yet.

    softmax over the keys j that i sees of (q_i . k_j) / sqrt(C), times v
    i sees j if there is no window, or |i - j| <= window, or one of the two is a CLS token (the sample's first `cls`)
"""

# mypy: disable-error-code="no-untyped-def, valid-type, attr-defined"
from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from interformer_rec.ops.triton.launch import Blocks, hopper, launch, precision
from interformer_rec.ops.triton.tiles import dot, load_tile, locate, store_tile, tiles

LOG2E = tl.constexpr(1.4426950408889634)
HIDDEN = tl.constexpr(-1.0e30)  # a score that weighs nothing; finite, so that a row without a key yet has no NaN


def forward_blocks(channels: int, dtype: torch.dtype, device: torch.device) -> Blocks:
    """The cut, by what compiles without spills (compile_report.py) and reads keys seldom."""
    if dtype == torch.float32:
        return Blocks(64, 32, 4, 2) if channels <= 64 else Blocks(32, 32, 4, 1)
    if channels <= 64:
        return Blocks(128, 64, 8, 2)
    if hopper(device):
        return Blocks(128, 64, 8, 2) if channels <= 128 else Blocks(128, 32, 8, 2)
    return Blocks(64, 64, 4, 2) if channels <= 128 else Blocks(64, 64, 8, 2)


@triton.jit
def visible(rows, keys, length, cls, window, WINDOWED: tl.constexpr):
    """(rows, keys) bool: the key exists and the row sees it. Rows and keys are positions in the sample."""
    exists = keys < length
    if WINDOWED:
        apart = rows[:, None] - keys[None, :]
        near = (apart <= window) & (apart >= -window)
        return exists[None, :] & (near | (keys < cls)[None, :] | (rows < cls)[:, None])
    else:
        return exists[None, :] & (rows >= 0)[:, None]


@triton.jit
def blocks_seen(first, length, cls, window, ROWS: tl.constexpr, STEP: tl.constexpr, WINDOWED: tl.constexpr):
    """(blocks of CLS keys, first block after them, number of blocks in all) that rows first .. first + ROWS - 1 see.

    The same blocks see the rows, so the backward over queries uses it too.
    """
    last = tl.cdiv(length, STEP)
    if WINDOWED:
        head = tl.minimum(tl.cdiv(cls, STEP), last)
        low = tl.maximum(tl.maximum(first - window, 0) // STEP, head)
        high = tl.minimum((first + ROWS - 1 + window) // STEP + 1, last)
        if first < cls:  # CLS tokens see all
            low = head
            high = last
        return head, low, head + tl.maximum(high - low, 0)
    else:
        return 0, 0, last


@triton.jit
def attend(acc, top, total, q, k, v, qk_row, v_row, rows, first_step, last_step, head_steps, low, length, cls, window,
           scale, C: tl.constexpr, BLOCK_C: tl.constexpr, STEP: tl.constexpr, MASKED: tl.constexpr,
           WINDOWED: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """Take in the blocks of keys number first_step .. last_step - 1: the running sum, maximum and weight of each row."""
    column = tl.arange(0, BLOCK_C)
    for step in range(first_step, last_step):
        block = step
        if WINDOWED:
            block = tl.where(step < head_steps, step, step - head_steps + low)
        keys = block * STEP + tl.arange(0, STEP)
        k_tile = load_tile(k, keys, qk_row, length, column, C, MASKED, C != BLOCK_C)
        scores = dot(q, tl.trans(k_tile), tl.zeros((q.shape[0], STEP), tl.float32), PRECISION) * scale
        if MASKED:
            scores = tl.where(visible(rows, keys, length, cls, window, WINDOWED), scores, HIDDEN)
        new_top = tl.maximum(top, tl.max(scores, 1))
        weights = tl.exp2(scores - new_top[:, None])
        shrink = tl.exp2(top - new_top)
        total = total * shrink + tl.sum(weights, 1)
        v_tile = load_tile(v, keys, v_row, length, column, C, MASKED, C != BLOCK_C)
        acc = dot(weights.to(v_tile.dtype), v_tile, acc * shrink[:, None], PRECISION)
        top = new_top
    return acc, top, total


@triton.jit(do_not_specialize=["samples", "cls", "window"])
def attention_forward_kernel(qk, v, out, lse, offsets, samples, tokens, cls, window, scale, qk_row, qk_part, qk_head,
                             v_row, v_head, C: tl.constexpr, BLOCK_C: tl.constexpr, ROWS: tl.constexpr,
                             STEP: tl.constexpr, WINDOWED: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """One program: a tile of one sample's queries, one head. `scale` is log2(e) / sqrt(C), `lse` in base 2, (H, J)."""
    head = tl.program_id(1)
    heads = tl.num_programs(1)
    _, start, length, first = locate(offsets, tl.program_id(0), samples, ROWS)
    if first >= length:
        return
    rows = first + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK_C)
    q = qk + start * qk_row + head * qk_head
    k = q + qk_part
    v += start * v_row + head * v_head
    q_tile = load_tile(q, rows, qk_row, length, column, C, True, C != BLOCK_C)
    acc = tl.zeros((ROWS, BLOCK_C), tl.float32)
    top = tl.full((ROWS,), HIDDEN, tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    head_steps, low, steps = blocks_seen(first, length, cls, window, ROWS, STEP, WINDOWED)
    whole = 0 if WINDOWED else length // STEP  # blocks without a mask
    if not WINDOWED:
        acc, top, total = attend(acc, top, total, q_tile, k, v, qk_row, v_row, rows, 0, whole, head_steps, low, length,
                                 cls, window, scale, C, BLOCK_C, STEP, False, WINDOWED, PRECISION)  # fmt: skip
    acc, top, total = attend(acc, top, total, q_tile, k, v, qk_row, v_row, rows, whole, steps, head_steps, low, length,
                             cls, window, scale, C, BLOCK_C, STEP, True, WINDOWED, PRECISION)  # fmt: skip
    acc = acc / total[:, None]
    tl.store(lse + head * tokens + start + rows, top + tl.log2(total), mask=rows < length)
    store_tile(out + start * heads * C + head * C, rows, heads * C, length, column, C, acc)


def attention_forward(
    qk_J2HC: Tensor,
    v_JHC: Tensor,
    offsets_B1: Tensor,
    *,
    cls: int,
    window: int | None,
) -> tuple[Tensor, Tensor]:
    """(J, 2, H, C) turned queries and keys, (J, H, C) values -> (J, H, C), and (H, J) log-sum-exps of base 2, float32.

    Last axes contiguous. `window` None: all tokens of a sample see each other. Rows outside all samples are not written.
    """
    tokens, heads, channels = v_JHC.shape
    samples = offsets_B1.numel() - 1
    out = torch.empty(v_JHC.shape, dtype=v_JHC.dtype, device=v_JHC.device)
    lse_HJ = torch.empty(heads, tokens, dtype=torch.float32, device=v_JHC.device)
    cut = forward_blocks(channels, v_JHC.dtype, v_JHC.device)
    launch(
        attention_forward_kernel,
        (tiles(tokens, samples, cut.rows) if tokens else 0, heads),
        *(qk_J2HC, v_JHC, out, lse_HJ, offsets_B1, samples, tokens, cls, window or 0),
        *(LOG2E.value / math.sqrt(channels), *qk_J2HC.stride()[:3], *v_JHC.stride()[:2]),
        C=channels,
        BLOCK_C=max(16, triton.next_power_of_2(channels)),
        ROWS=cut.rows,
        STEP=cut.step,
        WINDOWED=window is not None,
        PRECISION=precision(v_JHC.dtype),
        warps=cut.warps,
        stages=cut.stages,
    )
    return out, lse_HJ
