"""A model as graphs: the user's half, the candidate's half, or the whole. In: the dense part of a task; out: modules of plain tensors.

They are the model itself, its code and its weights, fed with rectangles (ops/rectangle.py); what comes in is named by Reads. A user's
state is one row of floats, so that a cache holds one for each user. Legend: R users, W floats of a state.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from interformer_rec.model.candidate_side import SharedShapes
from interformer_rec.model.embedding.embedded import Embedded, Events, United
from interformer_rec.model.embedding.ensemble import EmbeddingEnsemble
from interformer_rec.model.interformer import InterFormer
from interformer_rec.serving.rectangle import Reads

SplitModel = InterFormer | EmbeddingEnsemble


def embedded_of(reads: Reads, tensors: Sequence[Tensor], axes: int = 1) -> tuple[Tensor, Embedded]:
    """A graph's inputs as the model takes them; rows are numbered by so many axes."""
    given = dict(zip(reads.names, tensors, strict=True))
    first = tensors[0]
    dense = given["dense"] if reads.dense else first.new_zeros(*first.shape[:axes], 0)
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
    """The user's inputs -> states (R, W): what all candidates of a user share."""

    def __init__(self, model: SplitModel, reads: Reads) -> None:
        super().__init__()
        self.model, self.reads = model, reads

    def forward(self, *tensors: Tensor) -> Tensor:
        """Everything that does not depend on the candidate."""
        inputs = embedded_of(self.reads, tensors)
        if isinstance(self.model, EmbeddingEnsemble):
            return torch.cat([one.flat() for one in self.model.shared(self.model.states(*inputs))], dim=1)
        return self.model.shared(self.model.states(*inputs)).flat()


class CandidateHalf(nn.Module):
    """States (R, W), owners (K,) and the inputs (K, T, ...) of K blocks of T candidates -> logits (K, T, tasks).

    Candidates of one block are of one user, so that nothing of the user is repeated for each of them.
    """

    def __init__(self, model: SplitModel, reads: Reads) -> None:
        super().__init__()
        self.model, self.reads = model, reads
        members: Iterable[Any] = model.members[: model.begun] if isinstance(model, EmbeddingEnsemble) else [model]
        self.shapes: list[SharedShapes] = [member.shared_shapes for member in members]

    def forward(self, states: Tensor, owners: Tensor, *tensors: Tensor) -> Tensor:
        """Each block reads the state of its user."""
        blocks = states.index_select(0, owners)
        parts = iter(blocks.split([size for shapes in self.shapes for size in shapes.sizes], dim=1))
        shared = tuple(shapes.of(parts) for shapes in self.shapes)
        inputs = embedded_of(self.reads, tensors, axes=2)
        if isinstance(self.model, EmbeddingEnsemble):
            return self.model.logits_of_requests(shared, *inputs)
        return self.model.logits_of_requests(shared[0], *inputs)


class WholeModel(nn.Module):
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
        return (WholeModel(model, reads[0]),)
    assert isinstance(model, (InterFormer, EmbeddingEnsemble))
    return UserHalf(model, reads[0]), CandidateHalf(model, reads[1])
