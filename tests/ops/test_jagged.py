"""Layouts: where tokens lie, their ages, and the moves that prepend and pick them, with their gradients."""

from __future__ import annotations

import pytest
import torch

from interformer_rec.ops.jagged import JaggedLayout
from tests.ops.layouts import layouts


@pytest.mark.parametrize("layout", layouts())
def test_prepend_bucket_and_summary(layout: JaggedLayout) -> None:
    size, cls, lengths = layout.batch_size, layout.cls, layout.lengths.tolist()
    heads = torch.randn(size, cls, 2, dtype=torch.float64, requires_grad=True)
    events = torch.randn(sum(lengths), 2, dtype=torch.float64, requires_grad=True)

    def moved(heads: torch.Tensor, events: torch.Tensor) -> tuple[torch.Tensor, ...]:
        tokens = layout.prepend(heads, events)
        return (
            tokens,
            layout.buckets.unbucket([part * 2 for part in layout.buckets.bucket(heads)]),
            layout.take_summary(tokens, 2),
        )

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
