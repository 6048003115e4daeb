"""Kernels that touch each row once, interpreted, against float64: norm, gates, prepend, summary, DOT."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmarks.kernels import reference
from interformer_rec.errors import InputError
from interformer_rec.ops.jagged import JaggedLayout
from interformer_rec.ops.triton.gating import Gate, Kind, gate_forward
from interformer_rec.ops.triton.gram import Gram, gram_forward
from interformer_rec.ops.triton.norm import RMSNorm
from interformer_rec.ops.triton.tokens import Prepend, TakeSummary
from tests.ops.triton.comparison import same

CLS = 2
PARTS = torch.tensor([[0, 0], [3, 1], [0, 7], [40, 2], [1, 0], [0, 0]])  # events of 2 groups


def check_norm(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    inputs = [torch.randn(shape), torch.randn(shape[-1])]
    same(lambda x, gain: RMSNorm.apply(x, gain, 1e-6), lambda x, g: reference.rms_norm(x, g, 1e-6), inputs, dtype)


@pytest.mark.parametrize(
    "shape, dtype", [((7, 33, 40), torch.float32), ((300, 16), torch.bfloat16), ((3, 256), torch.float16)]
)
def test_rms_norm(interpreted, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    interpreted(check_norm, shape, dtype)


def check_gate(kind: Kind, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    inputs = [torch.randn(shape), torch.randn(shape)] + [torch.randn(shape[-1])] * (kind == "mask")

    def plain(x: Tensor, gate: Tensor, bias: Tensor | None = None) -> Tensor:
        return x * gate.sigmoid() if bias is None else x * (gate + bias)

    same(lambda x, gate, bias=None: Gate.apply(x, gate, bias, kind), plain, inputs, dtype)


@pytest.mark.parametrize(
    "kind, shape, dtype",
    [("swish", (5, 3, 40), torch.float32), ("mask", (77, 300), torch.float32), ("mask", (20, 64), torch.bfloat16)],
)
def test_gate(interpreted, kind: Kind, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    interpreted(check_gate, kind, shape, dtype)


def check_tokens(dtype: torch.dtype) -> None:
    layout, offsets = JaggedLayout(PARTS.sum(1), CLS, PARTS), JaggedLayout(PARTS.sum(1), CLS).token_offsets
    inputs = [torch.randn(len(PARTS), CLS, 24), torch.randn(int(PARTS.sum()), 24)]
    same(lambda cls, events: Prepend.apply(cls, events, offsets), layout.prepend, inputs, dtype, exact=True)
    for recent in (3, 1):
        same(
            lambda x, recent=recent: TakeSummary.apply(x, offsets, CLS + PARTS.cumsum(1), CLS, recent),
            lambda x, recent=recent: layout.take_summary(x, recent),
            [torch.randn(layout.total, 24)],
            dtype,
            exact=True,
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_prepend_and_summary(interpreted, dtype: torch.dtype) -> None:
    interpreted(check_tokens, dtype)


def check_gram(tokens: int, dtype: torch.dtype) -> None:
    first, second = torch.triu_indices(tokens, tokens, offset=1)

    def plain(x: Tensor) -> Tensor:
        return (x @ x.transpose(1, 2) * 0.3)[:, first, second]

    same(lambda x: Gram.apply(x, 0.3), plain, [torch.randn(3, tokens, 40)], dtype)


@pytest.mark.parametrize("tokens, dtype", [(2, torch.float32), (70, torch.float32), (17, torch.bfloat16)])
def test_gram(interpreted, tokens: int, dtype: torch.dtype) -> None:
    interpreted(check_gram, tokens, dtype)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="same"):
        gate_forward(torch.zeros(3, 4), torch.zeros(3, 5), None, "swish")
    with pytest.raises(InputError, match="a bias belongs"):
        gate_forward(torch.zeros(3, 4), torch.zeros(3, 4), None, "mask")
    with pytest.raises(InputError, match="at most 256"):
        gram_forward(torch.zeros(3, 4, 300))
