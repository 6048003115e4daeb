"""The pairwise loss against loops over pairs, its edges, and its place in the objective."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from interformer_rec.config.features import NULL_GROUP
from interformer_rec.model.pairwise import pairwise_loss
from interformer_rec.model.task import WeightedBCE


def batch(rows: int, groups: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 2, (rows, 2), generator=generator).float()
    weights = torch.rand(rows, generator=generator) * torch.randint(0, 4, (rows,), generator=generator).clamp(max=1)
    return logits, labels, weights, torch.randint(-groups, groups, (rows,), generator=generator) * 2**50


def by_loops(logits: Tensor, labels: Tensor, weights: Tensor, groups: Tensor) -> Tensor:
    totals = []
    for t in range(labels.shape[1]):
        total = logits.new_zeros(())
        for i in range(len(logits)):
            others = [
                j
                for j in range(len(logits))
                if groups[j] == groups[i] and labels[j, t] == 0 and weights[j] > 0 and labels[i, t] == 1
            ]
            if others:
                total = total + weights[i] * sum(F.softplus(logits[j, t] - logits[i, t]) for j in others) / len(others)
        totals.append(total)
    return torch.stack(totals)


@pytest.mark.parametrize("rows, groups", [(1, 1), (2, 1), (30, 1), (30, 4), (30, 40), (60, 9)])
def test_agrees_with_loops_over_pairs(rows: int, groups: int) -> None:
    logits, labels, weights, ids = batch(rows, groups, rows + groups)
    found, expected = pairwise_loss(logits, labels, weights, ids), by_loops(logits, labels, weights, ids)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)  # weights are float32
    ours = torch.autograd.grad(found.sum(), logits)[0]
    theirs = torch.autograd.grad(expected.sum(), logits, allow_unused=True)[0] if expected.requires_grad else None
    torch.testing.assert_close(ours, torch.zeros_like(ours) if theirs is None else theirs, rtol=1e-7, atol=1e-9)


def test_rows_of_one_label_or_of_different_groups_have_no_pairs() -> None:
    logits, ones = torch.randn(4, 1), torch.ones(4)
    for labels, groups in ((torch.ones(4, 1), torch.zeros(4)), (torch.tensor([[0.0], [1], [0], [1]]), torch.arange(4))):
        assert pairwise_loss(logits, labels, ones, groups).tolist() == [0.0]


def test_rows_without_a_group_are_nobodys_pair() -> None:
    logits, labels, weights, groups = batch(30, 2, 5)
    groups[::2] = NULL_GROUP
    known = [part[1::2] for part in (logits, labels, weights, groups)]
    torch.testing.assert_close(pairwise_loss(logits, labels, weights, groups), pairwise_loss(*known))


def test_it_moves_the_weights_but_not_the_reported_number() -> None:
    logits, labels, weights, groups = batch(20, 2, 0)
    plain, _ = WeightedBCE([2.0, 0.5])(logits, labels, weights, 20.0, groups)
    value, _ = WeightedBCE([2.0, 0.5], pairwise_weight=0.3)(logits, labels, weights, 20.0, groups)
    assert value.item() == plain.item()
    part = pairwise_loss(logits, labels, weights, groups) @ torch.tensor([2.0, 0.5]).double() * 0.3 / 20
    expected = torch.autograd.grad(plain + part, logits)[0]
    torch.testing.assert_close(torch.autograd.grad(value, logits)[0], expected)
    with torch.no_grad():
        assert WeightedBCE([1.0, 1.0], pairwise_weight=0.3)(logits, labels, weights, 20.0, groups)[0].isfinite()
