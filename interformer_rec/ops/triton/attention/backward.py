"""Gradients of forward.py: what it read and wrote and the output's gradient come in; dq, dk and dv go out.

Three kernels, each owning what it writes, so no atomics and the same bits every time: delta = sum over C of dout * out, then
dk and dv of a tile of keys over all queries, then dq of a tile of queries over all keys. dq and dk are turned back by the
rotary angles on their way out. Never run on a GPU yet.
"""

# mypy: disable-error-code="no-untyped-def, valid-type, attr-defined"
from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from interformer_rec.ops.triton.attention.forward import LOG2E, blocks_seen, visible
from interformer_rec.ops.triton.launch import Blocks, hopper, launch, precision
from interformer_rec.ops.triton.rotary import load_turns, turn
from interformer_rec.ops.triton.tiles import dot, load_tile, locate, store_tile, tiles


def backward_blocks(channels: int, dtype: torch.dtype, device: torch.device) -> tuple[Blocks, Blocks]:
    """(dk and dv, dq): the cuts, by what compiles without spills (compile_report.py)."""
    if dtype == torch.float32:
        small = Blocks(32, 32, 4, 1) if channels <= 64 else Blocks(16, 16, 4, 1)
        return small, small
    new = hopper(device)
    if channels <= 64:
        return Blocks(128, 64, 8, 2) if new else Blocks(64, 64, 4, 2), Blocks(128, 64, 8, 2)
    if channels <= 128:
        return (Blocks(128, 32, 8, 2), Blocks(128, 64, 8, 2)) if new else (Blocks(64, 64, 8, 2),) * 2
    return Blocks(32, 32, 8, 1), Blocks(64, 32, 8, 2 if new else 1)


@triton.jit
def delta_kernel(grad, out, delta, rows, tokens, grad_row, grad_head, C: tl.constexpr, BLOCK_C: tl.constexpr,
                 ROWS: tl.constexpr):  # fmt: skip
    """delta (H, J) = sum of grad * out."""
    head = tl.program_id(1)
    heads = tl.num_programs(1)
    first = tl.program_id(0).to(tl.int64) * ROWS
    row = tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK_C)
    left = rows - first
    here = first * heads * C + head * C
    g = load_tile(grad + first * grad_row + head * grad_head, row, grad_row, left, column, C, True, C != BLOCK_C)
    g = g.to(tl.float32)
    o = load_tile(out + here, row, heads * C, left, column, C, True, C != BLOCK_C).to(tl.float32)
    tl.store(delta + head * tokens + first + row, tl.sum(g * o, 1), mask=row < left)


@triton.jit
def add_keys(dk, dv, k_tile, v_tile, q, grad, lse, delta, qk_row, grad_row, keys, steps, head_steps, low, length, cls,
             window, scale, C: tl.constexpr, BLOCK_C: tl.constexpr, STEP: tl.constexpr, WINDOWED: tl.constexpr,
             PRECISION: tl.constexpr):  # fmt: skip
    """dk and dv of one tile of keys from all queries that see it. A query beyond the length has lse +inf: weight 0."""
    column = tl.arange(0, BLOCK_C)
    for step in range(0, steps):
        block = step
        if WINDOWED:
            block = tl.where(step < head_steps, step, step - head_steps + low)
        rows = block * STEP + tl.arange(0, STEP)
        q_tile = load_tile(q, rows, qk_row, length, column, C, True, C != BLOCK_C)
        lse_row = tl.load(lse + rows, mask=rows < length, other=float("inf"))
        none = tl.zeros((k_tile.shape[0], STEP), tl.float32)
        weights = tl.exp2(dot(k_tile, tl.trans(q_tile), none, PRECISION) * scale - lse_row[None, :])
        if WINDOWED:
            weights = tl.where(tl.trans(visible(rows, keys, length, cls, window, True)), weights, 0.0)
        grad_tile = load_tile(grad, rows, grad_row, length, column, C, True, C != BLOCK_C)
        dv = dot(weights.to(grad_tile.dtype), grad_tile, dv, PRECISION)
        delta_row = tl.load(delta + rows, mask=rows < length, other=0.0)
        ds = weights * (dot(v_tile, tl.trans(grad_tile), none, PRECISION) - delta_row[None, :])
        dk = dot(ds.to(q_tile.dtype), q_tile, dk, PRECISION)
    return dk, dv


@triton.jit(do_not_specialize=["samples", "cls", "window"])
def keys_kernel(qk, v, grad, lse, delta, dqk, dv, ages, table, offsets, samples, tokens, cls, window, scale, last,
                qk_row, qk_part, qk_head, v_row, v_head, grad_row, grad_head, C: tl.constexpr, BLOCK_C: tl.constexpr,
                ROWS: tl.constexpr, STEP: tl.constexpr, WINDOWED: tl.constexpr, TURNED: tl.constexpr,
                PRECISION: tl.constexpr):  # fmt: skip
    """One program: dk and dv of a tile of one sample's keys, one head."""
    head = tl.program_id(1)
    heads = tl.num_programs(1)
    _, start, length, first = locate(offsets, tl.program_id(0), samples, ROWS)
    if first >= length:
        return
    keys = first + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK_C)
    q = qk + start * qk_row + head * qk_head
    k_tile = load_tile(q + qk_part, keys, qk_row, length, column, C, True, C != BLOCK_C)
    v_tile = load_tile(v + start * v_row + head * v_head, keys, v_row, length, column, C, True, C != BLOCK_C)
    head_steps, low, steps = blocks_seen(first, length, cls, window, ROWS, STEP, WINDOWED)
    none = tl.zeros((ROWS, BLOCK_C), tl.float32)
    grad += start * grad_row + head * grad_head
    dk_tile, dv_tile = add_keys(none, none, k_tile, v_tile, q, grad, lse + head * tokens + start,
                                delta + head * tokens + start, qk_row, grad_row, keys, steps, head_steps, low, length,
                                cls, window, scale, C, BLOCK_C, STEP, WINDOWED, PRECISION)  # fmt: skip
    store_tile(dv + start * heads * C + head * C, keys, heads * C, length, column, C, dv_tile)
    dk_tile *= scale / LOG2E
    if TURNED:
        cosine, sine = load_turns(table, ages + start, keys, length, last, BLOCK_C // 2, C)
        dk_tile = turn(dk_tile, cosine, sine, ROWS, BLOCK_C, True)
    store_tile(dqk + (start * 2 + 1) * heads * C + head * C, keys, 2 * heads * C, length, column, C, dk_tile)


@triton.jit
def add_queries(dq, q_tile, grad_tile, lse_row, delta_row, k, v, qk_row, v_row, rows, first_step, last_step, head_steps,
                low, length, cls, window, scale, C: tl.constexpr, BLOCK_C: tl.constexpr, STEP: tl.constexpr,
                MASKED: tl.constexpr, WINDOWED: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """dq of one tile of queries from the blocks of keys number first_step .. last_step - 1."""
    column = tl.arange(0, BLOCK_C)
    for step in range(first_step, last_step):
        block = step
        if WINDOWED:
            block = tl.where(step < head_steps, step, step - head_steps + low)
        keys = block * STEP + tl.arange(0, STEP)
        k_tile = load_tile(k, keys, qk_row, length, column, C, MASKED, C != BLOCK_C)
        none = tl.zeros((q_tile.shape[0], STEP), tl.float32)
        weights = tl.exp2(dot(q_tile, tl.trans(k_tile), none, PRECISION) * scale - lse_row[:, None])
        if MASKED:
            weights = tl.where(visible(rows, keys, length, cls, window, WINDOWED), weights, 0.0)
        v_tile = load_tile(v, keys, v_row, length, column, C, MASKED, C != BLOCK_C)
        ds = weights * (dot(grad_tile, tl.trans(v_tile), none, PRECISION) - delta_row[:, None])
        dq = dot(ds.to(k_tile.dtype), k_tile, dq, PRECISION)
    return dq


@triton.jit(do_not_specialize=["samples", "cls", "window"])
def queries_kernel(qk, v, grad, lse, delta, dqk, dv, ages, table, offsets, samples, tokens, cls, window, scale, last,
                   qk_row, qk_part, qk_head, v_row, v_head, grad_row, grad_head, C: tl.constexpr,
                   BLOCK_C: tl.constexpr, ROWS: tl.constexpr, STEP: tl.constexpr, WINDOWED: tl.constexpr,
                   TURNED: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """One program: dq of a tile of one sample's queries, one head. `dv` is not used: both kernels take the same arguments."""
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
    grad += start * grad_row + head * grad_head
    grad_tile = load_tile(grad, rows, grad_row, length, column, C, True, C != BLOCK_C)
    lse_row = tl.load(lse + head * tokens + start + rows, mask=rows < length, other=float("inf"))
    delta_row = tl.load(delta + head * tokens + start + rows, mask=rows < length, other=0.0)
    dq = tl.zeros((ROWS, BLOCK_C), tl.float32)
    head_steps, low, steps = blocks_seen(first, length, cls, window, ROWS, STEP, WINDOWED)
    whole = 0 if WINDOWED else length // STEP  # blocks without a mask
    if not WINDOWED:
        dq = add_queries(dq, q_tile, grad_tile, lse_row, delta_row, k, v, qk_row, v_row, rows, 0, whole, head_steps,
                         low, length, cls, window, scale, C, BLOCK_C, STEP, False, WINDOWED, PRECISION)  # fmt: skip
    dq = add_queries(dq, q_tile, grad_tile, lse_row, delta_row, k, v, qk_row, v_row, rows, whole, steps, head_steps,
                     low, length, cls, window, scale, C, BLOCK_C, STEP, True, WINDOWED, PRECISION)  # fmt: skip
    dq *= scale / LOG2E
    if TURNED:
        cosine, sine = load_turns(table, ages + start, rows, length, last, BLOCK_C // 2, C)
        dq = turn(dq, cosine, sine, ROWS, BLOCK_C, True)
    store_tile(dqk + start * 2 * heads * C + head * C, rows, 2 * heads * C, length, column, C, dq)


def delta_of(grad_JHC: Tensor, out_JHC: Tensor) -> Tensor:
    """(J, H, C) gradient and output -> delta (H, J) in float32."""
    tokens, heads, channels = out_JHC.shape
    delta_HJ = torch.empty(heads, tokens, dtype=torch.float32, device=out_JHC.device)
    rows = max(16, min(64, 4096 // triton.next_power_of_2(channels)))
    launch(
        delta_kernel,
        (triton.cdiv(tokens, rows), heads),
        *(grad_JHC, out_JHC, delta_HJ, tokens, tokens, *grad_JHC.stride()[:2]),
        C=channels,
        BLOCK_C=max(16, triton.next_power_of_2(channels)),
        ROWS=rows,
    )
    return delta_HJ


def attention_backward(
    grad_JHC: Tensor,
    delta_HJ: Tensor,
    qk_J2HC: Tensor,
    v_JHC: Tensor,
    lse_HJ: Tensor,
    offsets_B1: Tensor,
    turned: tuple[Tensor, Tensor] | None,
    *,
    cls: int,
    window: int | None,
) -> tuple[Tensor, Tensor]:
    """The output's gradient, its `delta`, the forward's inputs and lse -> gradients (J, 2, H, C) and (J, H, C).

    `turned`: (ages (J,), rotary.table_for(...)) if the queries and keys were turned; their gradients are turned back.
    """
    tokens, heads, channels = v_JHC.shape
    samples = offsets_B1.numel() - 1
    dqk = torch.empty((tokens, 2, heads, channels), dtype=v_JHC.dtype, device=v_JHC.device)
    dv = torch.empty(v_JHC.shape, dtype=v_JHC.dtype, device=v_JHC.device)
    ages, table = turned or (offsets_B1, lse_HJ)
    cuts = backward_blocks(channels, v_JHC.dtype, v_JHC.device)
    for kernel, cut in zip((keys_kernel, queries_kernel), cuts, strict=True):
        launch(
            kernel,
            (tiles(tokens, samples, cut.rows) if tokens else 0, heads),
            *(qk_J2HC, v_JHC, grad_JHC, lse_HJ, delta_HJ, dqk, dv, ages, table, offsets_B1, samples, tokens, cls),
            *(window or 0, LOG2E.value / math.sqrt(channels), table.shape[0] - 1, *qk_J2HC.stride()[:3]),
            *(*v_JHC.stride()[:2], *grad_JHC.stride()[:2]),
            C=channels,
            BLOCK_C=max(16, triton.next_power_of_2(channels)),
            ROWS=cut.rows,
            STEP=cut.step,
            WINDOWED=window is not None,
            TURNED=turned is not None,
            PRECISION=precision(v_JHC.dtype),
            warps=cut.warps,
            stages=cut.stages,
        )
    return dqk, dv
