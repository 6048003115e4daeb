"""The per-sample FFN's kernels, interpreted, against float64: outputs and all gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmarks.kernels import reference
from interformer_rec.errors import InputError
from interformer_rec.ops.triton.launch import Blocks
from interformer_rec.ops.triton.per_sample_ffn.forward import per_sample_ffn_forward
from tests.ops.triton.comparison import jagged, same, split
from tests.ops.triton.steps import PerSampleFFN

CUTS = (Blocks(32, 16, 4, 2), (Blocks(32, 16, 4, 2), Blocks(16, 16, 4, 2)))


def check(offsets: Tensor, width: int, rank: int, dtype: torch.dtype, cuts: tuple = CUTS) -> None:
    rows, samples = int(offsets[-1]), offsets.numel() - 1
    weights = torch.randn(samples, width, rank) / width**0.5, torch.randn(samples, rank, width) / rank**0.5

    def plain(x: Tensor, w1: Tensor, w2: Tensor) -> Tensor:
        return torch.cat([reference.ffn(part, w1[i], w2[i]) for i, part in enumerate(split(x, offsets))])

    same(
        lambda x, w1, w2: PerSampleFFN.apply(x, w1, w2, offsets, *cuts),
        plain,
        [torch.randn(rows, width), *weights],
        dtype,
    )


@pytest.mark.parametrize(
    "width, rank, dtype",
    [
        (40, 24, torch.float32),
        (32, 16, torch.bfloat16),
        (24, 40, torch.float16),
        (16, 16, torch.bfloat16),
    ],
)
def test_per_sample_ffn(interpreted, width: int, rank: int, dtype: torch.dtype) -> None:
    interpreted(check, jagged(2, 4, 40, 1), width, rank, dtype)


def test_a_sample_without_tokens_has_weights_without_gradient(interpreted) -> None:
    interpreted(check, torch.tensor([0, 0, 3, 3]), 16, 16, torch.float32)


def test_weights_of_other_samples_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(B, d, r\)"):
        per_sample_ffn_forward(torch.zeros(4, 8), torch.zeros(3, 8, 2), torch.zeros(3, 2, 8), torch.tensor([0, 1, 4]))
