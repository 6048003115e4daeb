"""Jagged attention's kernels, interpreted, against float64: outputs and all gradients, with and without a window."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from interformer_rec.errors import InputError
from interformer_rec.ops.rotary import rotary_table, rotate
from interformer_rec.ops.triton.attention.operator import Form
from interformer_rec.ops.triton.launch import Blocks
from tests.ops.triton.comparison import jagged, same, split
from tests.ops.triton.steps import JaggedAttention

BASE = 100.0


def ages_of(offsets: Tensor, cls: int) -> Tensor:
    newest_first = [torch.arange(n - 1, -1, -1) for n in offsets.diff().tolist()]
    return torch.cat([torch.where(age >= len(age) - cls, -1, age) for age in newest_first])


def plain(offsets: Tensor, ages: Tensor | None, form: Form, qk: Tensor, v: Tensor) -> Tensor:
    rows, _, heads, channels = qk.shape
    if ages is not None:
        table = rotary_table(ages, 2 * heads, channels, form.base, torch.float64)
        qk = rotate(qk.reshape(rows, -1), table).view(qk.shape)
    out = []
    for part, values in zip(split(qk, offsets), split(v, offsets), strict=True):
        scores = torch.einsum("ihc,jhc->hij", part[:, 0], part[:, 1]) / math.sqrt(channels)
        if form.window is not None:
            place = torch.arange(len(part))
            near = (place[:, None] - place).abs() <= form.window
            scores = scores.masked_fill(~(near | (place < form.cls) | (place < form.cls)[:, None]), -math.inf)
        out.append(torch.einsum("hij,jhc->ihc", scores.softmax(-1), values))
    return torch.cat(out)


def check(offsets: Tensor, shape: tuple[int, int], form: Form, dtype: torch.dtype, turned: bool = True) -> None:
    rows = int(offsets[-1])
    ages = ages_of(offsets, form.cls) if turned else None
    inputs = [torch.randn(rows, 2, *shape), torch.randn(rows, *shape)]

    def op(qk: Tensor, v: Tensor) -> Tensor:
        return JaggedAttention.apply(qk, v, offsets, ages, form)

    same(op, lambda *args: plain(offsets, ages, form, *args), inputs, dtype)


def form_of(window: int | None, rows: int, step: int, cls: int = 2) -> Form:
    cut = Blocks(rows, step, 4, 2)
    return Form(cls, window, 303, BASE, cut, (cut, cut))


@pytest.mark.parametrize(
    "window, shape, dtype",
    [
        (None, (2, 16), torch.float32),
        (None, (1, 24), torch.bfloat16),
        (5, (2, 32), torch.float32),
        (5, (1, 16), torch.float16),
        (0, (1, 6), torch.float32),
    ],
)
def test_attention(interpreted, window: int | None, shape: tuple[int, int], dtype: torch.dtype) -> None:
    interpreted(check, jagged(1, 5, 40, 2), shape, form_of(window, 32, 16), dtype)


@pytest.mark.parametrize("window", [None, 40])
def test_attention_over_many_blocks(interpreted, window: int | None) -> None:
    interpreted(check, torch.tensor([0, 302, 303]), (1, 16), form_of(window, 64, 64, 1), torch.float32)


def test_more_cls_tokens_than_a_block_of_keys(interpreted) -> None:
    interpreted(check, torch.tensor([0, 90]), (1, 16), form_of(3, 16, 16, 18), torch.float32)


def packed(offsets: Tensor) -> None:
    """Queries, keys and values as slices of one tensor, no CLS tokens, no positions; nothing is copied first."""
    qkv = torch.randn(int(offsets[-1]), 3, 2, 16, requires_grad=True)
    form = form_of(None, 32, 32, 0)
    out = JaggedAttention.apply(qkv[:, :2], qkv[:, 2], offsets, None, form)
    wide = qkv.detach().double().requires_grad_()
    expected = plain(offsets, None, form, wide[:, :2], wide[:, 2])
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)
    for mine, reference in zip(
        torch.autograd.grad(out.square().sum(), qkv), torch.autograd.grad(expected.square().sum(), wide), strict=True
    ):
        torch.testing.assert_close(mine.double(), reference, rtol=1e-4, atol=1e-4)


def test_slices_of_one_tensor(interpreted) -> None:
    interpreted(packed, jagged(3, 4, 30, 0))


def nothing() -> None:
    qk, v = torch.zeros(0, 2, 2, 16, requires_grad=True), torch.zeros(0, 2, 16, requires_grad=True)
    out = JaggedAttention.apply(qk, v, torch.zeros(4, dtype=torch.int64), None, form_of(None, 32, 32, 0))
    assert out.shape == (0, 2, 16)
    assert [x.shape for x in torch.autograd.grad(out.sum(), (qk, v))] == [qk.shape, v.shape]


def test_no_tokens_at_all(interpreted) -> None:
    interpreted(nothing)


@pytest.mark.parametrize(
    "qk, v, says",
    [
        (torch.zeros(4, 2, 2, 16), torch.zeros(4, 2, 16).bfloat16(), "one dtype"),
        (torch.zeros(4, 2, 2, 16).double(), torch.zeros(4, 2, 16).double(), "one dtype"),
        (torch.zeros(5, 2, 2, 16), torch.zeros(4, 2, 16), "model.heads"),
        (torch.zeros(4, 2, 2, 300), torch.zeros(4, 2, 300), "at most 256"),
    ],
)
def test_what_does_not_fit_is_refused(qk: Tensor, v: Tensor, says: str) -> None:
    with pytest.raises(InputError, match=says):
        JaggedAttention.apply(qk, v, torch.tensor([0, 4]), None, form_of(None, 32, 32))
