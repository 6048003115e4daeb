"""Embedding sets: every member reads its own floats and learns from its own loss, and the mean of their logits is what is said."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from interformer_rec.model.embedded import Embedded, Events
from interformer_rec.model.embedding_sets import EmbeddingSets, Members
from interformer_rec.model.pairwise import pairwise_loss
from interformer_rec.model.task import WeightedBCE, build_task
from interformer_rec.model_config import ModelConfig
from tests.model import cases
from tests.model.test_candidate_side import schema as split_schema
from tests.model.test_task import make_batch, rows_of


def sets_of(count: int, **changes) -> ModelConfig:
    return ModelConfig.model_validate({"embedding_dim": 8, "d": 8, "head": [16], "embedding_sets": count, **changes})


def wide(parts: list[Embedded], columns: dict[str, int]) -> Embedded:
    """What tables say whose rows hold the rows of `parts`, one after the other."""
    events = {}
    for name, first in parts[0].events.items():
        values = [part.events[name].values.unflatten(1, (columns[name], -1)) for part in parts]
        events[name] = Events(torch.cat(values, dim=2).flatten(1), first.lengths, first.ids)
    fields = {
        dim * len(parts): torch.cat([part.fields[dim] for part in parts], dim=2) for dim in sorted(parts[0].fields)
    }
    return Embedded(fields, events)


def inputs(features, model: ModelConfig, longest: int, seed: int = 0):
    """Dense columns, each set's Embedded (the same histories, other vectors), all as one, and columns by group."""
    dense, first = cases.embedded_inputs(features, model, count=5, longest=longest, seed=seed)
    parts = [first]
    for _ in range(1, model.embedding_sets):
        fields = {dim: torch.randn_like(values) for dim, values in first.fields.items()}
        events = {n: Events(torch.randn_like(e.values), e.lengths, e.ids) for n, e in first.events.items()}
        parts.append(Embedded(fields, events))
    return dense, parts, wide(parts, {group.name: len(group.columns) for group in features.sequences})


def built(features, model: ModelConfig) -> EmbeddingSets:
    torch.manual_seed(1)
    return EmbeddingSets(features, model).double()


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("longest", [0, 1, 9])
def test_members_read_their_own_floats(count: int, longest: int) -> None:
    features, model = cases.schema(labels=2, odd_dim=6), sets_of(count)
    sets = built(features, model)
    dense, parts, together = inputs(features, model, longest)
    alone = torch.stack([member(dense, part) for member, part in zip(sets.members, parts, strict=True)], dim=2)
    said = sets.train()(dense, together)
    assert isinstance(said, Members)
    torch.testing.assert_close(said.logits, alone, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(sets.eval()(dense, together), alone.mean(2), rtol=1e-12, atol=1e-12)


def test_a_members_gradient_reaches_its_floats_alone() -> None:
    features, model = cases.schema(), sets_of(2)
    sets = built(features, model)
    dense, _, together = inputs(features, model, 7)
    values = together.fields[16].requires_grad_()
    sets.train()(dense, together).logits[:, :, 1].sum().backward()
    assert values.grad is not None and (values.grad[..., :8] == 0).all() and (values.grad[..., 8:] != 0).any()


def test_a_split_shares_one_users_work_in_every_member() -> None:
    features, model = split_schema(), sets_of(2, split=True)
    sets = built(features, model).eval()
    dense, _, together = inputs(features, model, 7)
    states = sets.user_side(dense, together)
    torch.testing.assert_close(sets.candidate_side(states, dense, together), sets(dense, together))
    request = torch.tensor([0, 0, 3, 1, 3])
    candidates = Embedded(together.fields, {})
    shared = sets.candidate_side(states, dense, candidates, request)
    repeated = sets.candidate_side(tuple(mine.of(request) for mine in states), dense, candidates)
    torch.testing.assert_close(shared, repeated)


@pytest.mark.parametrize("pairwise", [(0.0,), (0.3,), (0.0, 1.0, 0.5)])
def test_each_learns_from_its_own_loss_and_the_mean_is_reported(pairwise) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 2, (20, 2), generator=generator).double()
    weights, groups = torch.rand(20, generator=generator).double(), torch.arange(20) % 3
    tasks = torch.tensor([2.0, 0.5])

    def bce(of: torch.Tensor) -> torch.Tensor:
        losses = F.binary_cross_entropy_with_logits(of, labels, reduction="none")
        return (losses * tasks * weights[:, None]).sum() / 20

    value, shown = WeightedBCE([2.0, 0.5], pairwise)(Members(logits), labels, weights, 20.0, groups)
    torch.testing.assert_close(value, bce(logits.mean(2)), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(shown, logits.detach().mean(2).float())
    each = pairwise if len(pairwise) == 3 else pairwise * 3
    expected = sum(
        bce(logits[:, :, i]) + each[i] * (pairwise_loss(logits[:, :, i], labels, weights, groups) @ tasks.double()) / 20
        for i in range(3)
    )
    ours, theirs = torch.autograd.grad(value, logits)[0], torch.autograd.grad(expected, logits)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)


def test_one_wide_lookup_is_as_good_as_a_task_for_each_set() -> None:
    """Through TorchRec's collections: rows side by side, logits the mean, the rows' gradients (L2 included) side by side."""
    features, cpu = cases.schema(labels=1, odd_dim=4), torch.device("cpu")
    batch = make_batch(6, features=features)
    torch.manual_seed(0)
    both = build_task(features, sets_of(2), rows_of(features), l2=0.5, device=cpu)
    singles = [build_task(features, sets_of(1), rows_of(features), l2=0.5, device=cpu) for _ in range(2)]
    for at, single in enumerate(singles):
        single.model.load_state_dict(both.model.members[at].state_dict())
        for name, weight in both.embeddings.named_parameters():
            half = weight.shape[1] // 2
            single.embeddings.get_parameter(name).data.copy_(weight.data[:, at * half : (at + 1) * half])
    loss, logits = both(batch)
    loss.backward()
    found = [single(batch) for single in singles]
    torch.testing.assert_close(logits, torch.stack([each for _, each in found]).mean(0))
    sum(value for value, _ in found).backward()
    for name, weight in both.embeddings.named_parameters():
        expected = torch.cat([single.embeddings.get_parameter(name).grad for single in singles], dim=1)
        torch.testing.assert_close(weight.grad, expected, rtol=1e-4, atol=1e-6)
