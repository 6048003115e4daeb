"""FmFM: dense columns and lookups come in, logits go out (Sun et al. 2021, WWW; "FM^2: Field-matrixed Factorization Machines")."""

import torch
from torch import Tensor, nn

from interformer_rec.config.baselines import FmFMConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.model.baselines.fields import FieldVectors
from interformer_rec.model.baselines.first_order import FirstOrder
from interformer_rec.model.embedding.embedded import Embedded


class FmFM(nn.Module):
    """w_0 + sum_i <v_i, w_F(i)> x_i + sum_{i<j} <v_i M_F(i),F(j), v_j> x_i x_j, a d x d matrix M for each pair of fields.

    M starts as the identity: at FM. The second order serves all tasks.
    """

    def __init__(self, features: FeatureSchema, options: FmFMConfig) -> None:
        super().__init__()
        self.fields = FieldVectors(features, options.embedding_dim)
        n, d = self.fields.count, options.embedding_dim
        self.first_order = FirstOrder(n, d, len(features.labels))
        first, second = torch.triu_indices(n, n, offset=1)
        self.register_buffer("pairs", first * n + second, persistent=False)
        self.matrices = nn.Parameter(torch.eye(d).repeat(self.pairs.numel(), 1, 1))  # (pairs, d, d)

    def forward(self, dense_BM: Tensor, embedded: Embedded) -> Tensor:
        """(B, M) and Embedded -> (B, tasks) logits."""
        vectors = self.fields(dense_BM, embedded)
        n, d = vectors.shape[1:]
        # one product with all matrices as blocks above the diagonal: B * n * d numbers to keep, not B * n * n * d
        blocks = self.matrices.new_zeros(n * n, d, d).index_copy(0, self.pairs, self.matrices)
        matrix = blocks.view(n, n, d, d).transpose(1, 2).reshape(n * d, n * d)
        flat = vectors.flatten(1)
        return self.first_order(vectors) + (flat @ matrix * flat).sum(1, keepdim=True)
