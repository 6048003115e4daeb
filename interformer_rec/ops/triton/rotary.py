"""Rotary positions: queries and keys (J, 2, H, C) and ages (J,) come in; turned ones go out. Same numbers as ops/rotary.py.

Channels (2j, 2j + 1) of a head turn by age * base^(-2j / C); ages below 0 (CLS tokens) do not turn. Never run on a GPU yet.

A pass of its own before attention, because every tile of queries reads every key: turned inside, a key would turn again for
each tile, and go through registers instead of straight to shared memory. The gradients turn back inside attention's kernels.
"""

# mypy: disable-error-code="no-untyped-def, valid-type, attr-defined"
from __future__ import annotations

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from interformer_rec.ops.triton.launch import launch


@lru_cache(maxsize=64)
def turns(ages: int, channels: int, base: float, device: torch.device) -> Tensor:
    """(ages, 2, C / 2) float32: cosine and sine for ages 0 to `ages` - 1, worked out in float64."""
    frequency = base ** (-torch.arange(0, channels, 2, dtype=torch.float64, device=device) / channels)
    angle = torch.arange(ages, dtype=torch.float64, device=device)[:, None] * frequency
    return torch.stack([angle.cos(), angle.sin()], 1).float()


def table_for(max_length: int, channels: int, base: float, device: torch.device) -> Tensor:
    """`turns` for ages below `max_length`, rounded up to a power of two so that few tables serve all batches."""
    return turns(max(16, triton.next_power_of_2(max_length)), channels, base, device)


@triton.jit
def load_turns(table, ages, rows, limit, last, HALF: tl.constexpr, C: tl.constexpr):
    """(rows, HALF) cosines and sines of the rows' ages; the identity for ages below 0 and rows not below `limit`."""
    age = tl.load(ages + rows, mask=rows < limit, other=0).to(tl.int32)
    age = tl.minimum(tl.maximum(age, 0), last)
    pair = tl.arange(0, HALF)
    pointers = table + age[:, None] * C + pair[None, :]
    inside = pair[None, :] < C // 2
    cosine = tl.load(pointers, mask=inside, other=1.0)
    return cosine, tl.load(pointers + C // 2, mask=inside, other=0.0)


@triton.jit
def turn(x, cosine, sine, ROWS: tl.constexpr, BLOCK_C: tl.constexpr, BACK: tl.constexpr):
    """(ROWS, BLOCK_C) float32 turned by its angles, or by their negatives if BACK."""
    first, second = tl.split(tl.reshape(x, (ROWS, BLOCK_C // 2, 2)))
    if BACK:
        sine = -sine
    return tl.reshape(tl.join(first * cosine - second * sine, first * sine + second * cosine), (ROWS, BLOCK_C))


@triton.jit
def rotate_kernel(x, out, ages, table, rows, last, x_row, x_part, x_head, HEADS: tl.constexpr, C: tl.constexpr,
                  BLOCK_C: tl.constexpr, ROWS: tl.constexpr):  # fmt: skip
    """One program: ROWS tokens, all heads of queries and keys, one reading of the angles."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    cosine, sine = load_turns(table, ages, row, rows, last, BLOCK_C // 2, C)
    column = tl.arange(0, BLOCK_C)[None, :]
    inside = (row[:, None] < rows) & (column < C)
    for part in tl.static_range(2):
        for head in range(HEADS):
            source = x + row[:, None] * x_row + part * x_part + head * x_head + column
            tile = tl.load(source, mask=inside, other=0.0).to(tl.float32)
            tile = turn(tile, cosine, sine, ROWS, BLOCK_C, False)
            target = out + (row[:, None] * 2 + part) * (HEADS * C) + head * C + column
            tl.store(target, tile.to(out.dtype.element_ty), mask=inside)


def rotate_forward(qk_J2HC: Tensor, ages_J: Tensor, max_length: int, base: float) -> Tensor:
    """(J, 2, H, C), any strides but a contiguous last axis, and (J,) ages below `max_length` -> (J, 2, H, C) turned."""
    rows, _, heads, channels = qk_J2HC.shape
    out = torch.empty(qk_J2HC.shape, dtype=qk_J2HC.dtype, device=qk_J2HC.device)
    table = table_for(max_length, channels, base, qk_J2HC.device)
    block = 16
    launch(
        rotate_kernel,
        (triton.cdiv(rows, block),),
        *(qk_J2HC, out, ages_J, table, rows, table.shape[0] - 1, *qk_J2HC.stride()[:3]),
        HEADS=heads,
        C=channels,
        BLOCK_C=triton.next_power_of_2(channels),
        ROWS=block,
    )
    return out
