"""Several InterFormers with rows of their own. In: dense columns and an Embedded of wide rows; out: their mean logits.

A table row holds `embedding_sets` vectors, one a member, looked up together (multi-embedding; Guo et al. 2024, "On the Embedding
Collapse When Scaling up Recommendation Models", ICML, section 5). Members share nothing but the lookup and the batch: each learns
from its own loss, so that they err differently, and the mean of their logits errs less. One wide table instead of several:
the same all-to-all, and a plan sees what it moves. Legend: B samples (C candidates), S members, w floats of a member.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from interformer_rec.model.candidate_side import UserStates
from interformer_rec.model.embedded import Embedded, Events
from interformer_rec.model.interformer import InterFormer
from interformer_rec.model_config import ModelConfig
from interformer_rec.schema import FeatureSchema


class Members(NamedTuple):
    """What a model in training says: each member is taught by itself."""

    logits: Tensor  # (B, tasks, S)


class EmbeddingSets(nn.Module):
    """S InterFormers; forward, user_side and candidate_side are InterFormer's, states are a tuple of theirs."""

    def __init__(self, features: FeatureSchema, model: ModelConfig) -> None:
        super().__init__()
        self.columns = {group.name: len(group.columns) for group in features.sequences}
        self.members = nn.ModuleList(InterFormer(features, model) for _ in range(model.embedding_sets))

    def forward(self, dense_BM: Tensor, embedded: Embedded) -> Tensor | Members:
        """(B, m) dense columns and what the tables say -> (B, tasks) logits; in training Members."""
        parts = zip(self.members, self.divided(embedded), strict=True)
        return self._said([member(dense_BM, part) for member, part in parts])

    def user_side(self, dense_RM: Tensor, embedded: Embedded) -> tuple[UserStates, ...]:
        """What InterFormer.user_side gives, of each member."""
        parts = zip(self.members, self.divided(embedded), strict=True)
        return tuple(member.user_side(dense_RM, part) for member, part in parts)

    def candidate_side(
        self,
        states: tuple[UserStates, ...],
        dense_CM: Tensor,
        embedded: Embedded,
        request_of_candidate: Tensor | None = None,
    ) -> Tensor | Members:
        """What InterFormer.candidate_side gives. Raises InputError as it does."""
        parts = zip(self.members, states, self.divided(embedded), strict=True)
        return self._said([m.candidate_side(mine, dense_CM, part, request_of_candidate) for m, mine, part in parts])

    def divided(self, embedded: Embedded) -> list[Embedded]:
        """Each member's w floats of every row (S * w). unbind, not slices: a slice's gradient is a whole tensor of zeros."""
        count = len(self.members)
        fields = {
            width // count: values.unflatten(2, (count, width // count)).unbind(2)
            for width, values in embedded.fields.items()
        }
        events = {
            name: group.values.unflatten(
                1, (self.columns[name], count, group.values.shape[1] // (self.columns[name] * count))
            ).unbind(2)
            for name, group in embedded.events.items()
        }
        return [
            Embedded(
                {width: parts[at] for width, parts in fields.items()},
                {
                    name: Events(parts[at].flatten(1), embedded.events[name].lengths, embedded.events[name].ids)
                    for name, parts in events.items()
                },
            )
            for at in range(count)
        ]

    def _said(self, logits: list[Tensor]) -> Tensor | Members:
        together = torch.stack(logits, dim=2)
        return Members(together) if self.training else together.mean(2)
