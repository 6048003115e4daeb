"""Layouts: the plan of buckets, and every move between jagged and padded form with its gradient."""

from __future__ import annotations

import itertools
import random

import pytest
import torch

from interformer_rec.ops import jagged
from interformer_rec.ops.jagged import JaggedLayout, plan_buckets

LENGTHS = [[2, 0, 1], [0], [0, 0, 0], [5], [3, 3, 3, 3], [7, 1, 0, 4, 4, 2, 0, 6, 1, 7, 3]]


def layouts() -> list[JaggedLayout]:
    return [JaggedLayout(torch.tensor(lengths), cls) for lengths in LENGTHS for cls in (1, 3)]


@pytest.fixture(autouse=True)
def _cheap_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jagged, "BUCKET_COST", 1)  # so that small batches have several buckets


def test_plan_is_the_cheapest_division() -> None:
    draw = random.Random(0)
    for _ in range(30):
        widths = sorted(draw.randint(1, 9) for _ in range(draw.randint(1, 10)))
        best = None
        for count in range(1, 4):
            for cuts in itertools.combinations(range(1, len(widths)), count - 1):
                edges = [0, *cuts, len(widths)]
                cost = sum((b - a) * widths[b - 1] + jagged.BUCKET_COST for a, b in itertools.pairwise(edges))
                best = cost if best is None else min(best, cost)
        plan = plan_buckets(widths, max_buckets=3)
        assert sum(rows for rows, _ in plan) == len(widths)
        edges = [0, *itertools.accumulate(rows for rows, _ in plan)]
        assert [width for _, width in plan] == [widths[end - 1] for end in edges[1:]]
        assert sum(rows * width + jagged.BUCKET_COST for rows, width in plan) == best


def test_plan_is_bounded_and_wastes_little_on_long_histories() -> None:
    draw = random.Random(1)
    widths = sorted(4 + min(1000, int(draw.lognormvariate(5, 1))) for _ in range(4096))
    plan = plan_buckets(widths)
    assert len(plan) <= jagged.MAX_BUCKETS
    assert sum(rows * width for rows, width in plan) < 1.2 * sum(widths) < 0.5 * len(widths) * widths[-1]


@pytest.mark.parametrize("layout", layouts())
def test_pad_and_unpad_are_inverse_and_their_gradients_too(layout: JaggedLayout) -> None:
    values = torch.randn(layout.total, 2, 3, dtype=torch.float64, requires_grad=True)
    parts = layout.pad(values)
    samples = values.split(layout.tokens.tolist())
    rows = [row for part, mask in zip(parts, layout.masks, strict=True) for row in _rows(part, mask)]
    for row, i in zip(rows, layout.order.tolist(), strict=True):
        assert torch.equal(row, samples[i])
    assert torch.equal(layout.unpad(parts), values)
    # loss reads real tokens only, as the operators do
    weight = torch.randn_like(values)
    (layout.unpad([part.square() for part in parts]) * weight).sum().backward()
    torch.testing.assert_close(values.grad, 2 * values.detach() * weight)


def test_unpad_gives_padding_no_gradient() -> None:
    layout = JaggedLayout(torch.tensor([4, 1, 0]), 1)
    parts = [torch.randn(*shape, 2, requires_grad=True) for shape in layout.plan]
    layout.unpad(parts).sum().backward()
    for part, mask in zip(parts, layout.masks, strict=True):
        expected = torch.ones(part.shape[:2]) if mask is None else mask.float()
        assert torch.equal(part.grad, expected[..., None].expand_as(part))


@pytest.mark.parametrize("layout", layouts())
def test_prepend_bucket_and_summary(layout: JaggedLayout) -> None:
    size, cls, lengths = layout.batch_size, layout.cls, layout.lengths.tolist()
    heads = torch.randn(size, cls, 2, dtype=torch.float64, requires_grad=True)
    events = torch.randn(sum(lengths), 2, dtype=torch.float64, requires_grad=True)

    def moved(heads: torch.Tensor, events: torch.Tensor) -> tuple[torch.Tensor, ...]:
        tokens = layout.prepend(heads, events)
        return tokens, layout.unbucket([part * 2 for part in layout.bucket(heads)]), layout.take_summary(tokens, 2)

    tokens, doubled, summary = moved(heads, events)
    expected = [row for i, part in enumerate(events.split(lengths)) for row in (*heads[i], *part)]
    assert torch.equal(tokens, torch.stack(expected))
    assert torch.equal(doubled, heads * 2)
    for i, part in enumerate(events.split(lengths)):
        newest = [part[len(part) - 1 - k] if k < len(part) else torch.zeros(2) for k in range(2)]
        assert torch.equal(summary[i], torch.cat([heads[i], torch.stack(newest).double()]))
    assert torch.autograd.gradcheck(moved, (heads, events))
    ages = [age for length in lengths for age in (*[-1] * cls, *range(length - 1, -1, -1))]
    assert layout.ages.tolist() == ages


def test_ages_and_newest_events_count_inside_a_group() -> None:
    parts = torch.tensor([[2, 0], [1, 3], [0, 0]])
    layout = JaggedLayout(parts.sum(1), 1, parts)
    assert layout.ages.tolist() == [-1, 1, 0, -1, 0, 2, 1, 0, -1]
    values = torch.arange(9.0)[:, None]
    assert layout.take_summary(values, 2)[..., 0].tolist() == [[0, 2, 1, 0, 0], [3, 4, 0, 7, 6], [8, 0, 0, 0, 0]]


def test_a_layout_without_cls_is_refused() -> None:
    with pytest.raises(ValueError, match="CLS"):
        JaggedLayout(torch.tensor([1]), 0)


def _rows(part: torch.Tensor, mask: torch.Tensor | None) -> list[torch.Tensor]:
    return [row if mask is None else row[mask[i]] for i, row in enumerate(part)]
