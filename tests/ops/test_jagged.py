"""Layouts: ages and newest events of groups. What prepends and picks tokens is in the conformance suite."""

from __future__ import annotations

import pytest
import torch

from interformer_rec.ops.jagged import JaggedLayout


def test_ages_and_newest_events_count_inside_a_group() -> None:
    parts = torch.tensor([[2, 0], [1, 3], [0, 0]])
    layout = JaggedLayout(parts.sum(1), 1, parts)
    assert layout.ages.tolist() == [-1, 1, 0, -1, 0, 2, 1, 0, -1]
    values = torch.arange(9.0)[:, None]
    assert layout.take_summary(values, 2)[..., 0].tolist() == [[0, 2, 1, 0, 0], [3, 4, 0, 7, 6], [8, 0, 0, 0, 0]]


def test_a_layout_without_cls_is_refused() -> None:
    with pytest.raises(ValueError, match="CLS"):
        JaggedLayout(torch.tensor([1]), 0)
