"""Every operator against its plain reference in float64, outputs and gradients, on jagged shapes with empty samples."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from benchmarks.kernels import reference
from interformer_rec.ops import buckets
from interformer_rec.ops.attention import attention_pool, jagged_attention
from interformer_rec.ops.glue import glue_by_age, glue_in_turn
from interformer_rec.ops.jagged import JaggedLayout
from interformer_rec.ops.norm import EPS, rms_norm
from interformer_rec.ops.per_sample_ffn import per_sample_ffn, per_sample_linear
from interformer_rec.ops.pooling import segment_pool
from interformer_rec.ops.rotary import rotary_table, rotate
from interformer_rec.ops.token_mix import mix_tokens

LENGTHS = [[2, 0, 1], [0], [0, 0], [6], [4, 4], [9, 1, 0, 4, 3, 2, 0, 6, 1, 9, 3]]


@pytest.fixture(params=LENGTHS, ids=str)
def lengths(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    monkeypatch.setattr(buckets, "BUCKET_COST", 1)
    torch.manual_seed(0)
    return request.param


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def same(op: Callable[..., Tensor], plain: Callable[..., Tensor], *inputs: Tensor) -> None:
    """Outputs and gradients agree."""
    results = []
    for function in (op, plain):
        leaves = [x.clone().requires_grad_() for x in inputs]
        out = function(*leaves)
        weight = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out)
        (out * weight).sum().backward()
        results.append([out.detach(), *(torch.zeros_like(x) if x.grad is None else x.grad for x in leaves)])
    for mine, expected in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-10)


def test_jagged_attention(lengths: list[int]) -> None:
    layout = JaggedLayout(torch.tensor(lengths), 2)

    def plain(qk: Tensor, v: Tensor) -> Tensor:
        tokens = layout.tokens.tolist()
        parts = zip(qk.split(tokens), v.split(tokens), strict=True)
        return torch.cat([reference.attention(a[:, 0], a[:, 1], b) for a, b in parts])

    same(
        lambda qk, v: jagged_attention(qk, v, layout), plain, normal(layout.total, 2, 2, 4), normal(layout.total, 2, 4)
    )


@pytest.mark.parametrize(
    "lengths, heads, channels", [([4096, 0, 1], 1, 32), ([70, 0, 1, 33], 2, 16), ([70, 0, 1], 2, 128)]
)
def test_long_and_wide(lengths: list[int], heads: int, channels: int) -> None:
    layout, d = JaggedLayout(torch.tensor(lengths), 2), heads * channels
    tokens = layout.tokens.tolist()
    torch.manual_seed(0)

    def attention(qk: Tensor, v: Tensor) -> Tensor:
        parts = zip(qk.split(tokens), v.split(tokens), strict=True)
        return torch.cat([reference.attention(a[:, 0], a[:, 1], b) for a, b in parts])

    def ffn(x: Tensor, w1: Tensor, w2: Tensor) -> Tensor:
        return torch.cat([reference.ffn(part, w1[i], w2[i]) for i, part in enumerate(x.split(tokens))])

    def pool(maps: Tensor, values: Tensor) -> Tensor:
        return torch.stack([reference.attention_pool(maps, part[2:]) for part in values.split(tokens)])

    rows = layout.total
    same(
        lambda qk, v: jagged_attention(qk, v, layout),
        attention,
        *(normal(rows, 2, heads, channels), normal(rows, heads, channels)),
    )
    weights = normal(len(lengths), d, 8) / d**0.5, normal(len(lengths), 8, d) / 8**0.5
    same(lambda x, w1, w2: per_sample_ffn(x, w1, w2, layout), ffn, normal(rows, d), *weights)
    same(lambda maps, values: attention_pool(maps, values, layout), pool, normal(3, d) / d**0.5, normal(rows, d))


def test_attention_pool(lengths: list[int]) -> None:
    layout = JaggedLayout(torch.tensor(lengths), 2)

    def plain(maps: Tensor, values: Tensor) -> Tensor:
        return torch.stack([reference.attention_pool(maps, part[2:]) for part in values.split(layout.tokens.tolist())])

    same(lambda maps, values: attention_pool(maps, values, layout), plain, normal(3, 4), normal(layout.total, 4))


def test_per_sample_ffn_and_linear(lengths: list[int]) -> None:
    layout = JaggedLayout(torch.tensor(lengths), 2)
    tokens, size = layout.tokens.tolist(), len(lengths)

    def plain(x: Tensor, w1: Tensor, w2: Tensor) -> Tensor:
        return torch.cat([reference.ffn(part, w1[i], w2[i]) for i, part in enumerate(x.split(tokens))])

    inputs = normal(layout.total, 4), normal(size, 4, 3), normal(size, 3, 4)
    same(lambda *args: per_sample_ffn(*args, layout), plain, *inputs)
    same(
        lambda x, w: per_sample_linear(x, w, layout),
        lambda x, w: torch.cat([part @ w[i] for i, part in enumerate(x.split(tokens))]),
        *inputs[:2],
    )


@pytest.mark.parametrize("pooling", ["sum", "mean"])
def test_segment_pool(lengths: list[int], pooling: str) -> None:
    def plain(values: Tensor) -> Tensor:
        return torch.stack([reference.segment_pool(part, pooling == "mean") for part in values.split(lengths)])

    same(lambda v: segment_pool(v, torch.tensor(lengths), pooling), plain, normal(sum(lengths), 3))


def test_rotary(lengths: list[int]) -> None:
    layout = JaggedLayout(torch.tensor(lengths), 2)
    table = rotary_table(layout.ages, 3, 6, 100.0, torch.float64)

    def plain(x: Tensor) -> Tensor:
        rows = zip(x, layout.ages.tolist(), strict=True)
        return torch.stack([reference.rotate(row.view(3, 6), max(age, 0), 100.0).flatten() for row, age in rows])

    same(lambda x: rotate(x, table), plain, normal(layout.total, 18))
    half = torch.randn(layout.total, 18).bfloat16()
    assert rotate(half, rotary_table(layout.ages, 3, 6, 100.0, torch.float32)).dtype == torch.bfloat16


def test_glue_by_age_and_in_turn(lengths: list[int]) -> None:
    others = [min(2, length) if i % 2 else length + 1 for i, length in enumerate(lengths)]

    def by_age(a: Tensor, b: Tensor) -> Tensor:
        return glue_by_age([(a, torch.tensor(lengths)), (b, torch.tensor(others))])[0]

    def plain_by_age(a: Tensor, b: Tensor) -> Tensor:
        out = []
        for x, y in zip(a.split(lengths), b.split(others), strict=True):
            for age in range(max(len(x), len(y)) - 1, -1, -1):
                left = x[len(x) - 1 - age] if age < len(x) else x.new_zeros(2)
                right = y[len(y) - 1 - age] if age < len(y) else y.new_zeros(3)
                out.append(torch.cat([left, right]))
        return torch.stack(out) if out else a.new_zeros(0, 5)

    def in_turn(a: Tensor, b: Tensor) -> Tensor:
        return glue_in_turn([(a, torch.tensor(lengths)), (b, torch.tensor(others))])[0]

    def plain_in_turn(a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([part for pair in zip(a.split(lengths), b.split(others), strict=True) for part in pair])

    same(by_age, plain_by_age, normal(sum(lengths), 2), normal(sum(others), 3))
    same(in_turn, plain_in_turn, normal(sum(lengths), 3), normal(sum(others), 3))


def test_rms_norm_and_token_mix() -> None:
    torch.manual_seed(0)
    x, gain = normal(5, 3, 4), normal(4)
    same(rms_norm, lambda x, gain: reference.rms_norm(x, gain, EPS), x, gain)
    same(rms_norm, lambda x, gain: reference.rms_norm(x, gain, EPS), torch.zeros(2, 4, dtype=torch.float64), gain)
    same(rms_norm, lambda x, gain: reference.rms_norm(x, gain, EPS), normal(0, 4), gain)
    same(mix_tokens, lambda x, w: torch.stack([w @ sample for sample in x]), x, normal(2, 3))
    assert rms_norm(torch.zeros(2, 4).bfloat16(), torch.ones(4)).dtype == torch.bfloat16
