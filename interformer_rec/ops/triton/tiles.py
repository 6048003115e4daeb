"""Device functions that all kernels share: a tile's number and the offsets come in; its sample, its rows and masked loads go out.

The work list needs no preparation and no synchronisation. Sample i owns the tiles offsets[i] // BLOCK + i up to
offsets[i + 1] // BLOCK + i: always enough for its length, and together J // BLOCK + B. The few that are too many stop at once.
"""

# mypy: disable-error-code="no-untyped-def, valid-type, attr-defined"
from __future__ import annotations

import triton
import triton.language as tl

from interformer_rec.ops.triton.launch import INTERPRETED

_INTERPRETED = tl.constexpr(INTERPRETED)


def tiles(rows: int, samples: int, block: int) -> int:
    """Programs that cover `rows` rows of `samples` samples in tiles of `block` rows, whatever the lengths."""
    return rows // block + samples


@triton.jit
def locate(offsets, tile, samples, BLOCK: tl.constexpr):
    """-> (sample, its first row as int64, its length, the tile's first position in it, which may be beyond its length).

    A search by 64: three loads for 262,144 samples.
    """
    tile = tl.cast(tile, tl.int32)  # the interpreter counts with Python numbers
    low = tile * 0
    span = samples
    while span > 1:
        step = (span + 63) // 64
        candidate = low + tl.arange(0, 64) * step
        inside = candidate < samples
        first = tl.load(offsets + candidate, mask=inside, other=0) // BLOCK + candidate
        low += (tl.sum((inside & (first <= tile)).to(tl.int32)) - 1) * step
        span = step
    start = tl.load(offsets + low).to(tl.int64)
    length = (tl.load(offsets + low + 1) - start).to(tl.int32)
    position = (tile - (start // BLOCK).to(tl.int32) - low) * BLOCK
    return low, start, length, position


@triton.jit
def load_tile(base, rows, stride, limit, columns, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """base[rows, columns] for rows below `limit` (checked if ROWS) and columns below `width` (if COLUMNS); zeros elsewhere."""
    pointers = base + rows[:, None] * stride + columns[None, :]
    if ROWS and COLUMNS:
        return tl.load(pointers, mask=(rows[:, None] < limit) & (columns[None, :] < width), other=0.0)
    elif ROWS:
        return tl.load(pointers, mask=rows[:, None] < limit, other=0.0)
    elif COLUMNS:
        return tl.load(pointers, mask=columns[None, :] < width, other=0.0)
    else:
        return tl.load(pointers)


@triton.jit
def store_tile(base, rows, stride, limit, columns, width, values):
    """base[rows, columns] = values for rows below `limit` and columns below `width`."""
    pointers = base + rows[:, None] * stride + columns[None, :]
    inside = (rows[:, None] < limit) & (columns[None, :] < width)
    tl.store(pointers, values.to(base.dtype.element_ty), mask=inside)


@triton.jit
def dot(a, b, acc, PRECISION: tl.constexpr):
    """acc + a b, summed in float32. The interpreter multiplies bfloat16 as if it were integers, so there it is widened."""
    if _INTERPRETED:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision=PRECISION)
