"""A model as graphs: the user's half, the candidate's half, or the whole. In: the dense part of a task; out: modules of plain tensors.

They are the model itself, its code and its weights, fed with rectangles (ops/rectangle.py); what comes in is named by Reads. A user's
state is one tensor, so that a cache holds one row of it for each user. Legend: R users, C candidates, K tokens of a state, d channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from interformer_rec.model.candidate_side import UserStates
from interformer_rec.model.embedding.embedded import Embedded, Events, United
from interformer_rec.model.embedding.ensemble import EmbeddingEnsemble
from interformer_rec.model.interformer import InterFormer
from interformer_rec.serving.rectangle import Reads

SplitModel = InterFormer | EmbeddingEnsemble


def embedded_of(reads: Reads, tensors: Sequence[Tensor]) -> tuple[Tensor, Embedded]:
    """A graph's inputs as the model takes them."""
    given = dict(zip(reads.names, tensors, strict=True))
    first = tensors[0]
    dense = given["dense"] if reads.dense else first.new_zeros(first.shape[0], 0)
    fields = {width: given[f"fields_{width}"] for width in reads.fields}
    if not reads.groups:
        return dense, Embedded(fields, {})
    counts = given["counts"].unbind(1)
    names = [group.name for group in reads.groups]
    if not reads.union:
        events = {name: Events(given[f"events_{g}"], counts[g]) for g, name in enumerate(names)}
        return dense, Embedded(fields, events)
    values = given["events_0"]
    united = United(values, counts[-1], given["marks"])
    return dense, Embedded(fields, {name: Events(values[:, :0], counts[g]) for g, name in enumerate(names)}, united)


class UserHalf(nn.Module):
    """The user's inputs -> states (R, K, d)."""

    def __init__(self, model: SplitModel, reads: Reads) -> None:
        super().__init__()
        self.model, self.reads = model, reads

    def forward(self, *tensors: Tensor) -> Tensor:
        """Everything that does not depend on the candidate."""
        states = self.model.states(*embedded_of(self.reads, tensors))
        members: tuple[UserStates, ...] = (states,) if isinstance(states, UserStates) else states
        return torch.cat([part for member in members for part in (*member.reads, member.summaries)], dim=1)


class CandidateHalf(nn.Module):
    """States (R, K, d), owners (C,) and the candidate's inputs -> logits (C, tasks)."""

    def __init__(self, model: SplitModel, reads: Reads) -> None:
        super().__init__()
        self.model, self.reads = model, reads
        members: Iterable[Any] = model.members[: model.begun] if isinstance(model, EmbeddingEnsemble) else [model]
        self.sizes: list[tuple[int, ...]] = [member.state_tokens for member in members]

    def forward(self, states: Tensor, owners: Tensor, *tensors: Tensor) -> Tensor:
        """Each candidate reads the state of its user."""
        parts = iter(states.index_select(0, owners).split([size for sizes in self.sizes for size in sizes], dim=1))
        members = [[next(parts) for _ in sizes] for sizes in self.sizes]
        found = tuple(UserStates(tuple(reads), summaries) for *reads, summaries in members)
        inputs = embedded_of(self.reads, tensors)
        if isinstance(self.model, EmbeddingEnsemble):
            return self.model.logits(found, *inputs)
        return self.model.logits(found[0], *inputs)


class Whole(nn.Module):
    """All inputs -> logits (B, tasks)."""

    def __init__(self, model: nn.Module, reads: Reads) -> None:
        super().__init__()
        self.model, self.reads = model, reads

    def forward(self, *tensors: Tensor) -> Tensor:
        """The model."""
        return self.model(*embedded_of(self.reads, tensors))


def halves(model: nn.Module, reads: tuple[Reads, ...]) -> tuple[nn.Module, ...]:
    """The modules of a model in evaluation mode, as `rectangle.reads_of` describes them."""
    assert not model.training
    if len(reads) == 1:
        return (Whole(model, reads[0]),)
    assert isinstance(model, (InterFormer, EmbeddingEnsemble))
    return UserHalf(model, reads[0]), CandidateHalf(model, reads[1])
