"""Several InterFormers with rows of their own. In: dense columns and an Embedded of wide rows; out: their mean logits.

A table row holds `ensemble_members` vectors, one a member, looked up together (multi-embedding; Guo et al. 2024, "On the Embedding
Collapse When Scaling up Recommendation Models", ICML, section 5). Epoch e trains member e mod S alone: each sees every row once, in
an order of its own, so they err differently, and the mean of their logits errs less. A second epoch of one model overfits
its rows (Zhang et al. 2022, "Towards Understanding the Overfitting Phenomenon of Deep CTR Models", CIKM); here nobody has one.
One wide table instead of several: the same all-to-all, and a plan sees what it moves. Legend: B samples (C candidates),
S members, w floats of a member.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.model import ModelConfig
from interformer_rec.model.candidate_side import SharedStates, UserStates
from interformer_rec.model.embedding.embedded import Embedded, Events
from interformer_rec.model.interformer import InterFormer


class _ZeroGradient(torch.autograd.Function):
    """Identity; weights that were not used get a gradient of zeros, for DDP waits for one of every weight in every step."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, *weights: Tensor) -> Tensor:
        ctx.shapes = [weight.shape for weight in weights]
        return logits.view_as(logits)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        zero = grad.new_zeros(())
        return grad, *(zero.expand(shape) for shape in ctx.shapes)


class EmbeddingEnsemble(nn.Module):
    """S InterFormers; forward, user_side and candidate_side are InterFormer's, states are a tuple of theirs."""

    def __init__(self, features: FeatureSchema, model: ModelConfig) -> None:
        super().__init__()
        self.columns = {group.name: len(group.columns) for group in features.sequences}
        self.members = nn.ModuleList(InterFormer(features, model) for _ in range(model.ensemble_members))
        self.turn, self.begun = 0, len(self.members)
        self.members_before = 0  # that had been trained before epoch 0

    def begin_epoch(self, epoch: int) -> None:
        """From now on member `epoch` mod S is trained; members that have not been trained yet are left out of the average."""
        begun = max(epoch + 1, self.members_before)
        self.turn, self.begun = epoch % len(self.members), min(begun, len(self.members))

    def frozen_weights(self) -> list[nn.Parameter]:
        """Weights that this epoch does not train: no step may move them."""
        others = (member for at, member in enumerate(self.members) if at != self.turn)
        return [parameter for member in others for parameter in member.parameters()]

    def forward(
        self, dense_BM: Tensor, embedded: Embedded, request_of: Tensor | None = None, requests: int = 0
    ) -> Tensor:
        """(B, m) dense columns and what the tables say -> (B, tasks) logits; in training those of one member."""
        parts = self.divided(embedded)
        if self.training:
            logits = self.members[self.turn](dense_BM, parts[self.turn], request_of, requests)
            return _ZeroGradient.apply(logits, *self.frozen_weights())
        trained = zip(self.members[: self.begun], parts, strict=False)
        return torch.stack([member(dense_BM, part, request_of, requests) for member, part in trained]).mean(0)

    def user_side(self, dense_RM: Tensor, embedded: Embedded) -> tuple[UserStates, ...]:
        """What InterFormer.user_side gives, of each member that has been trained."""
        trained = zip(self.members[: self.begun], self.divided(embedded), strict=False)
        return tuple(member.user_side(dense_RM, part) for member, part in trained)

    def states(self, dense_RM: Tensor, embedded: Embedded) -> tuple[UserStates, ...]:
        """What InterFormer.states gives, of each member that has been trained."""
        trained = zip(self.members[: self.begun], self.divided(embedded), strict=False)
        return tuple(member.states(dense_RM, part) for member, part in trained)

    def shared(self, states: tuple[UserStates, ...]) -> tuple[SharedStates, ...]:
        """What InterFormer.shared gives, of each member."""
        return tuple(member.shared(mine) for member, mine in zip(self.members[: self.begun], states, strict=True))

    def logits_of_requests(self, shared: tuple[SharedStates, ...], dense_RTM: Tensor, embedded: Embedded) -> Tensor:
        """The mean of what InterFormer.logits_of_requests gives."""
        trained = zip(self.members[: self.begun], shared, self.divided(embedded), strict=False)
        return torch.stack([member.logits_of_requests(mine, dense_RTM, part) for member, mine, part in trained]).mean(0)

    def candidate_side(
        self,
        states: tuple[UserStates, ...],
        dense_CM: Tensor,
        embedded: Embedded,
        request_of_candidate: Tensor | None = None,
    ) -> Tensor:
        """The mean of what InterFormer.candidate_side gives. Raises InputError as it does."""
        trained = zip(self.members[: self.begun], states, self.divided(embedded), strict=False)
        logits = [member.candidate_side(mine, dense_CM, part, request_of_candidate) for member, mine, part in trained]
        return torch.stack(logits).mean(0)

    def divided(self, embedded: Embedded) -> list[Embedded]:
        """Each member's w floats of every row (S * w). unbind, not slices: a slice's gradient is a whole tensor of zeros."""
        count = len(self.members)
        fields = {
            width // count: values.unflatten(-1, (count, width // count)).unbind(-2)
            for width, values in embedded.fields.items()
        }
        events = {name: self._events(group.values, self.columns[name]) for name, group in embedded.events.items()}
        united = embedded.united
        if united is not None:
            together = self._events(united.values, next(iter(self.columns.values())))
        return [
            Embedded(
                {width: parts[at] for width, parts in fields.items()},
                {
                    name: Events(parts[at], embedded.events[name].lengths, embedded.events[name].ids)
                    for name, parts in events.items()
                },
                None if united is None else replace(united, values=together[at]),
            )
            for at in range(count)
        ]

    def _events(self, values: Tensor, columns: int) -> list[Tensor]:
        count = len(self.members)
        parts = values.unflatten(-1, (columns, count, values.shape[-1] // (columns * count))).unbind(-2)
        return [part.flatten(-2) for part in parts]
