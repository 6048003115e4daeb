"""The per-sample FFN's kernels, interpreted, against float64: both forms, outputs and all gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from interformer_rec.errors import InputError
from interformer_rec.ops import reference
from interformer_rec.ops.triton.launch import Blocks
from interformer_rec.ops.triton.per_sample_ffn.forward import per_sample_ffn_forward
from interformer_rec.ops.triton.per_sample_ffn.operator import Cut, PerSampleFFN
from tests.ops.triton.comparison import jagged, same, split

CUT = Cut(1e-6, Blocks(32, 16, 4, 2), (Blocks(32, 16, 4, 2), Blocks(16, 16, 4, 2)))


def check(
    offsets: Tensor, width: int, rank: int, production: bool, residual: bool, dtype: torch.dtype, cut: Cut = CUT
) -> None:
    rows, samples = int(offsets[-1]), offsets.numel() - 1
    weights = torch.randn(samples, width, rank) / width**0.5, torch.randn(samples, rank, width) / rank**0.5
    extra = [torch.randn(rows, width)] * residual + [torch.randn(rank), torch.randn(width)] * production

    def parts(extra: tuple[Tensor, ...]) -> tuple[Tensor | None, tuple[Tensor, ...]]:
        return (extra[0], extra[1:]) if residual else (None, extra)

    def op(x: Tensor, w1: Tensor, w2: Tensor, *extra: Tensor) -> Tensor:
        added, gains = parts(extra)
        return PerSampleFFN.apply(x, w1, w2, offsets, *(gains or (None, None)), added, cut)

    def plain(x: Tensor, w1: Tensor, w2: Tensor, *extra: Tensor) -> Tensor:
        (added, gains), out = parts(extra), []
        for i, part in enumerate(split(x, offsets)):
            inner = F.gelu(part @ w1[i])
            if gains:
                inner = reference.rms_norm(inner, gains[0], cut.eps)
            out.append(reference.rms_norm(inner @ w2[i], gains[1], cut.eps) if gains else inner @ w2[i])
        return torch.cat(out) if added is None else torch.cat(out) + added

    same(op, plain, [torch.randn(rows, width), *weights, *extra], dtype)


@pytest.mark.parametrize(
    "width, rank, production, residual, dtype",
    [
        (40, 24, False, False, torch.float32),
        (32, 16, False, True, torch.bfloat16),
        (40, 24, True, True, torch.float32),
        (24, 40, True, False, torch.float16),
        (16, 16, True, True, torch.bfloat16),
    ],
)
def test_per_sample_ffn(
    interpreted, width: int, rank: int, production: bool, residual: bool, dtype: torch.dtype
) -> None:
    interpreted(check, jagged(2, 4, 40, 1), width, rank, production, residual, dtype)


def test_a_sample_without_tokens_has_weights_without_gradient(interpreted) -> None:
    interpreted(check, torch.tensor([0, 0, 3, 3]), 16, 16, True, True, torch.float32)


def test_weights_of_other_samples_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(B, d, r\)"):
        per_sample_ffn_forward(torch.zeros(4, 8), torch.zeros(3, 8, 2), torch.zeros(3, 2, 8), torch.tensor([0, 1, 4]))
