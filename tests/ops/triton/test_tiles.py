"""The work list: each tile of each sample is found exactly once, whatever the lengths."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from interformer_rec.ops.padding.buckets import offsets_of
from interformer_rec.ops.triton.launch import launch
from interformer_rec.ops.triton.tiles import locate, tiles

BLOCK = 16


@triton.jit(do_not_specialize=["samples"])
def list_kernel(offsets, out, samples, BLOCK: tl.constexpr):
    tile = tl.program_id(0)
    sample, start, length, first = locate(offsets, tile, samples, BLOCK)
    tl.store(out + tile * 4, sample)
    tl.store(out + tile * 4 + 1, start.to(tl.int32))
    tl.store(out + tile * 4 + 2, length)
    tl.store(out + tile * 4 + 3, first)


def found(offsets: Tensor) -> list[list[int]]:
    samples = offsets.numel() - 1
    grid = tiles(int(offsets[-1]), samples, BLOCK)
    out = torch.full((grid, 4), -1, dtype=torch.int32)
    launch(list_kernel, (grid,), offsets, out, samples, BLOCK=BLOCK)
    return out.tolist()


# 70 and 200 samples take the search two rounds
@pytest.mark.parametrize("samples, longest", [(1, 0), (1, 90), (7, 60), (70, 33), (200, 2)])
def test_every_tile_once(interpreted, samples: int, longest: int) -> None:
    offsets = offsets_of(torch.randint(0, longest + 1, (samples,), generator=torch.Generator().manual_seed(samples)))
    listed = Counter()
    for sample, start, length, first in interpreted(found, offsets):
        assert start == offsets[sample] and length == offsets[sample + 1] - offsets[sample] and first % BLOCK == 0
        if first < length:
            listed[sample, first] += 1
    lengths = offsets.diff().tolist()
    assert listed == Counter((i, first) for i, n in enumerate(lengths) for first in range(0, n, BLOCK))
