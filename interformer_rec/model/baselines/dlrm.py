"""DLRM, the paper's DOT: dense columns and lookups come in, logits go out (Naumov et al. 2019)."""

import torch
from torch import Tensor, nn

from interformer_rec.config.baselines import DLRMConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.model.baselines.fields import FieldVectors
from interformer_rec.model.baselines.tower import Tower
from interformer_rec.model.embedding.embedded import Embedded


class DLRM(nn.Module):
    """top([z ; <v_i, v_j> for all i < j]), z = bottom(dense) a vector among the v. Without dense columns: no z.

    Defaults: the reference code's Criteo script, bottom 512-256-64-d, top 512-256-1.
    """

    def __init__(self, features: FeatureSchema, options: DLRMConfig) -> None:
        super().__init__()
        d, columns = options.embedding_dim, len(features.dense)
        self.fields = FieldVectors(features, d, dense=False, fewest=1 if columns else 2)
        self.bottom = (
            Tower(columns, (*options.bottom, d), None, options.activation, options.dropout) if columns else None
        )
        n = self.fields.count + (columns > 0)
        first, second = torch.triu_indices(n, n, offset=1)
        self.register_buffer("pairs", first * n + second, persistent=False)
        width = self.pairs.numel() + (d if columns else 0)
        self.top = Tower(width, options.hidden, len(features.labels), options.activation, options.dropout)

    def forward(self, dense_BM: Tensor, embedded: Embedded) -> Tensor:
        """(B, M) and Embedded -> (B, tasks) logits."""
        vectors, beside = self.fields(dense_BM, embedded), []
        if self.bottom is not None:
            beside = [self.bottom(dense_BM)]
            vectors = torch.cat([beside[0][:, None], vectors], dim=1)
        products = torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1).index_select(1, self.pairs)
        return self.top(torch.cat([*beside, products], dim=1))
