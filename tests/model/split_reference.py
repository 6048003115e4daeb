"""The split form written a second time, one sample at a time: the plain reference on the user's columns, then the candidate's tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from interformer_rec.model.embedding.embedded import field_groups
from tests.model.reference import Reference


class SplitReference(Reference):
    """logits(sample) of a model with `split`; samples are those of Reference, with the columns of both sides."""

    def of_side(self, sample: dict, candidate: bool) -> dict:
        """The sample with the columns of one side alone."""
        names = self.features.candidate
        dense = [i for i, feature in enumerate(self.features.dense) if (feature.name in names) == candidate]
        fields = {}
        for width, lookups in field_groups(self.features, self.model.embedding_dim).items():
            mine = [i for i, lookup in enumerate(lookups) if (lookup.key in names) == candidate]
            if mine:
                fields[width] = sample["fields"][width][mine]
        return {**sample, "dense": sample["dense"][dense], "fields": fields}

    def summaries(self, sample: dict) -> tuple[Tensor, list[Tensor]]:
        """[X_sum_u ; S_sum ; X_sum_c]."""
        user, reads = super().summaries(self.of_side(sample, candidate=False))
        x = self.tokens(self.of_side(sample, candidate=True), "candidate.preprocess", lengths=False)
        for layer, read in enumerate(reads):
            arch = f"candidate.interaction_archs.{layer}"
            z = torch.cat([self.norm(f"candidate.x_norms.{layer}", x), read])
            update = self.mlp(
                f"{arch}.mlp", self.interaction(self.model.interaction.kind, f"{arch}.interaction", z, len(x))
            )
            x = x + update if self.model.interaction.residual else update
        x = self.norm(f"candidate.x_norms.{len(reads)}", x)
        x_sum = self.gating("candidate.x_summary.gating", self.lce("candidate.x_summary.lce", x))
        return torch.cat([user, x_sum]), reads
