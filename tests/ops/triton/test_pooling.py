"""PMA pooling's kernels, interpreted, against float64: outputs and all gradients; no event gives zeros."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmarks.kernels import reference
from interformer_rec.errors import InputError
from interformer_rec.ops.triton.launch import Blocks
from interformer_rec.ops.triton.pooling import attention_pool_forward
from tests.ops.triton.comparison import jagged, same, split
from tests.ops.triton.steps import AttentionPool

CLS = 2


CUT = Blocks(32, 32, 4, 2)


def check(offsets: Tensor, maps: int, width: int, dtype: torch.dtype, cut: Blocks | None = CUT) -> None:
    def plain(maps: Tensor, values: Tensor) -> Tensor:
        return torch.stack([reference.attention_pool(maps, part[CLS:]) for part in split(values, offsets)])

    inputs = [torch.randn(maps, width) / width**0.5, torch.randn(int(offsets[-1]), width)]
    same(lambda m, x: AttentionPool.apply(m, x, offsets, CLS, cut), plain, inputs, dtype)


@pytest.mark.parametrize(
    "maps, width, dtype", [(3, 40, torch.float32), (1, 16, torch.float16), (20, 32, torch.bfloat16)]
)
def test_attention_pool(interpreted, maps: int, width: int, dtype: torch.dtype) -> None:
    interpreted(check, jagged(1, 6, 40, CLS), maps, width, dtype)


def test_a_long_sample(interpreted) -> None:
    interpreted(check, torch.tensor([0, 302, 305]), 2, 16, torch.float32)


def without_events() -> None:
    maps, values = torch.randn(2, 16, requires_grad=True), torch.randn(4, 16, requires_grad=True)
    out = AttentionPool.apply(maps, values, torch.tensor([0, 2, 4]), CLS)
    grads = torch.autograd.grad(out.sum(), (maps, values))
    assert all(x.count_nonzero() == 0 for x in (out, *grads))


def test_no_event_gives_zeros(interpreted) -> None:
    interpreted(without_events)


def test_widths_that_differ_are_refused() -> None:
    with pytest.raises(InputError, match=r"model\.d"):
        attention_pool_forward(torch.zeros(2, 16), torch.zeros(4, 8), torch.tensor([0, 4]), cls=CLS)
