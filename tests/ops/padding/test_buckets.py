"""Padding plans: the cheapest division into buckets, and every move between jagged and padded form with its gradient."""

from __future__ import annotations

import itertools
import random

import pytest
import torch

from interformer_rec.ops.jagged import JaggedLayout
from interformer_rec.ops.padding import buckets
from interformer_rec.ops.padding.buckets import plan_buckets

LENGTHS = [[2, 0, 1], [0], [0, 0, 0], [5], [3, 3, 3, 3], [7, 1, 0, 4, 4, 2, 0, 6, 1, 7, 3]]


@pytest.fixture(autouse=True)
def _cheap_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "BUCKET_COST", 1)  # so that small batches have several buckets


def test_plan_is_the_cheapest_division() -> None:
    draw = random.Random(0)
    for _ in range(30):
        widths = sorted(draw.randint(1, 9) for _ in range(draw.randint(1, 10)))
        best = None
        for count in range(1, 4):
            for cuts in itertools.combinations(range(1, len(widths)), count - 1):
                edges = [0, *cuts, len(widths)]
                cost = sum((b - a) * widths[b - 1] + buckets.BUCKET_COST for a, b in itertools.pairwise(edges))
                best = cost if best is None else min(best, cost)
        plan = plan_buckets(widths, max_buckets=3)
        assert sum(rows for rows, _ in plan) == len(widths)
        edges = [0, *itertools.accumulate(rows for rows, _ in plan)]
        assert [width for _, width in plan] == [widths[end - 1] for end in edges[1:]]
        assert sum(rows * width + buckets.BUCKET_COST for rows, width in plan) == best


def test_plan_is_bounded_and_wastes_little_on_long_histories() -> None:
    draw = random.Random(1)
    widths = sorted(4 + min(1000, int(draw.lognormvariate(5, 1))) for _ in range(4096))
    plan = plan_buckets(widths)
    assert len(plan) <= buckets.MAX_BUCKETS
    assert sum(rows * width for rows, width in plan) < 1.2 * sum(widths) < 0.5 * len(widths) * widths[-1]


@pytest.mark.parametrize("layout", [JaggedLayout(torch.tensor(lengths), cls) for lengths in LENGTHS for cls in (1, 3)])
def test_pad_and_unpad_are_inverse_and_their_gradients_too(layout: JaggedLayout) -> None:
    values = torch.randn(layout.total, 2, 3, dtype=torch.float64, requires_grad=True)
    parts = layout.buckets.pad(values)
    samples = values.split(layout.tokens.tolist())
    rows = [row for part, mask in zip(parts, layout.buckets.masks, strict=True) for row in _rows(part, mask)]
    for row, i in zip(rows, layout.buckets.order.tolist(), strict=True):
        assert torch.equal(row, samples[i])
    assert torch.equal(layout.buckets.unpad(parts), values)
    # loss reads real tokens only, as the operators do
    weight = torch.randn_like(values)
    (layout.buckets.unpad([part.square() for part in parts]) * weight).sum().backward()
    torch.testing.assert_close(values.grad, 2 * values.detach() * weight)
    rows = torch.randn(layout.batch_size, 2)
    assert torch.equal(layout.buckets.unbucket([part * 2 for part in layout.buckets.bucket(rows)]), rows * 2)


def test_unpad_gives_padding_no_gradient() -> None:
    layout = JaggedLayout(torch.tensor([4, 1, 0]), 1)
    parts = [torch.randn(*shape, 2, requires_grad=True) for shape in layout.buckets.plan]
    layout.buckets.unpad(parts).sum().backward()
    for part, mask in zip(parts, layout.buckets.masks, strict=True):
        expected = torch.ones(part.shape[:2]) if mask is None else mask.float()
        assert torch.equal(part.grad, expected[..., None].expand_as(part))


def _rows(part: torch.Tensor, mask: torch.Tensor | None) -> list[torch.Tensor]:
    return [row if mask is None else row[mask[i]] for i, row in enumerate(part)]
