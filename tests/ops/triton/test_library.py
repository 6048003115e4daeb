"""The registered operators on interpreted kernels: torch.library's own checks, and calls that no layout makes."""

from __future__ import annotations

import pytest
import torch

from interformer_rec.ops import library
from interformer_rec.ops.jagged import JaggedLayout

CLS = 2
CHECKS = ("test_schema", "test_autograd_registration", "test_faketensor")  # the conformance suite compiles and exports


def registrations() -> None:
    layout = JaggedLayout(torch.tensor([3, 0, 5]), CLS)
    offsets, ages = layout.token_offsets, layout.ages
    shapes = (layout.total, 2, 2, 4), (layout.total, 2, 4), (3, 8, 4), (3, 4, 8), (layout.total, 8), (3, 8)
    qk, v, w1, w2, flat, maps = (torch.randn(shape, requires_grad=True) for shape in shapes)
    for op, args in (
        (library.jagged_attention, (qk, v, offsets, ages, 8, CLS, None, 1e4)),
        (library.jagged_attention, (qk, v, offsets, None, 8, CLS, 2, 1e4)),
        (library.attention_pool, (maps, flat, offsets, CLS)),
        (library.per_sample_ffn, (flat, w1, w2, offsets)),
    ):
        torch.library.opcheck(op, args, test_utils=CHECKS)


@pytest.mark.slow
def test_torch_checks_the_registrations(interpreted) -> None:
    interpreted(registrations)


def without_tokens() -> None:
    """No token at all, and a sample without one: nothing is written, and the weights of that sample get zeros."""
    qk, v = torch.zeros(0, 2, 2, 16, requires_grad=True), torch.zeros(0, 2, 16, requires_grad=True)
    out = library.jagged_attention(qk, v, torch.zeros(4, dtype=torch.int64), None, 8, 0, None, 1e4)[0]
    assert out.shape == (0, 2, 16)
    assert [x.shape for x in torch.autograd.grad(out.sum(), (qk, v))] == [qk.shape, v.shape]
    x, w1, w2 = (torch.randn(shape, requires_grad=True) for shape in ((3, 16), (3, 16, 8), (3, 8, 16)))
    tokens = library.per_sample_ffn(x, w1, w2, torch.tensor([0, 0, 3, 3]))
    torch.testing.assert_close(tokens, torch.nn.functional.gelu(x @ w1[1]) @ w2[1])
    for grad in torch.autograd.grad(tokens.sum(), (w1, w2)):
        assert grad[[0, 2]].count_nonzero() == 0 and grad[1].count_nonzero() > 0


def test_samples_without_tokens(interpreted) -> None:
    interpreted(without_tokens)
