"""Embedding ensemble: every member reads its own floats and learns from its own loss, and the model returns the mean of their logits."""

from __future__ import annotations

import pytest
import torch

from interformer_rec.config.model import ModelConfig
from interformer_rec.model.embedding.embedded import Embedded, Events
from interformer_rec.model.embedding.ensemble import EmbeddingEnsemble
from interformer_rec.model.task import build_task
from tests.model import cases
from tests.model.test_candidate_side import schema as split_schema
from tests.model.test_task import make_batch, rows_of


def sets_of(count: int, **changes) -> ModelConfig:
    return ModelConfig.model_validate({"embedding_dim": 8, "d": 8, "head": [16], "ensemble_members": count, **changes})


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
    for _ in range(1, model.ensemble_members):
        fields = {dim: torch.randn_like(values) for dim, values in first.fields.items()}
        events = {n: Events(torch.randn_like(e.values), e.lengths, e.ids) for n, e in first.events.items()}
        parts.append(Embedded(fields, events))
    return dense, parts, wide(parts, {group.name: len(group.columns) for group in features.sequences})


def built(features, model: ModelConfig) -> EmbeddingEnsemble:
    torch.manual_seed(1)
    return EmbeddingEnsemble(features, model).double()


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("longest", [0, 1, 9])
def test_members_read_their_own_floats(count: int, longest: int) -> None:
    features, model = cases.schema(labels=2, odd_dim=6), sets_of(count)
    sets = built(features, model)
    dense, parts, together = inputs(features, model, longest)
    alone = torch.stack([member(dense, part) for member, part in zip(sets.members, parts, strict=True)])
    torch.testing.assert_close(sets.eval()(dense, together), alone.mean(0), rtol=1e-12, atol=1e-12)
    for epoch in range(count + 1):
        sets.begin_epoch(epoch)
        logits = sets.train()(dense, together)
        torch.testing.assert_close(logits, alone[epoch % count], rtol=1e-12, atol=1e-12)
        begun = alone[: epoch + 1].mean(0)
        torch.testing.assert_close(sets.eval()(dense, together), begun, rtol=1e-12, atol=1e-12)


def test_a_members_gradient_reaches_its_floats_alone() -> None:
    features, model = cases.schema(), sets_of(2)
    sets = built(features, model)
    dense, _, together = inputs(features, model, 7)
    values = together.fields[16].requires_grad_()
    sets.begin_epoch(1)
    sets.train()(dense, together).sum().backward()
    assert values.grad is not None and (values.grad[..., :8] == 0).all() and (values.grad[..., 8:] != 0).any()
    frozen = set(sets.frozen_weights())
    assert frozen == set(sets.members[0].parameters())
    for weight in sets.parameters():  # DDP wants a gradient of every one
        assert weight.grad is not None and (weight not in frozen or (weight.grad == 0).all())


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


def test_one_wide_lookup_is_as_good_as_a_task_for_each_set() -> None:
    """Through TorchRec's collections: rows side by side, logits the mean; a member's loss moves its floats alone, by L2 too."""
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
    logits = torch.stack([single.eval()(batch)[1] for single in singles])
    torch.testing.assert_close(both.eval()(batch)[1], logits.mean(0))
    for at, single in enumerate(singles):
        both.zero_grad()
        for module in both.modules():
            if hasattr(module, "begin_epoch"):
                module.begin_epoch(at)
        for task in (both, single):
            task.train()(batch)[0].backward()
        for name, weight in both.embeddings.named_parameters():
            expected, found = single.embeddings.get_parameter(name).grad, weight.grad.chunk(2, dim=1)
            torch.testing.assert_close(found[at], expected, rtol=1e-4, atol=1e-6)
            assert (found[1 - at] == 0).all()
