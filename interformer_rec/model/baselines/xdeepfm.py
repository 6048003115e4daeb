"""xDeepFM: dense columns and lookups come in, logits go out (Lian et al. 2018, KDD)."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from interformer_rec.config.baselines import XDeepFMConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.model.baselines.fields import FieldVectors
from interformer_rec.model.baselines.first_order import FirstOrder
from interformer_rec.model.baselines.tower import Tower
from interformer_rec.model.embedding.embedded import Embedded
from interformer_rec.model.layers import Linear, fan_in_


class CIN(nn.Module):
    """X^k_h = sum_ij W^k_hij (X^(k-1)_i * X^0_j), p^k_h = sum over d of X^k_h (Lian et al. 2018, Eq. 6-7). No activation."""

    def __init__(self, n: int, maps: Sequence[int]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            nn.Parameter(fan_in_(torch.empty(after, before, n), before * n))
            for before, after in itertools.pairwise([n, *maps])
        )
        self.width = sum(maps)

    def forward(self, vectors_BND: Tensor) -> Tensor:
        """Cross explicitly, order by order."""
        first = vectors_BND.transpose(1, 2)  # (B, d, n)
        x, pooled = first, []
        for weight in self.weights:
            products = (x[:, :, :, None] * first[:, :, None, :]).flatten(2)
            x = products @ weight.flatten(1).t()  # (B, d, H_k)
            pooled.append(x.sum(1))
        return torch.cat(pooled, dim=1)


class XDeepFM(nn.Module):
    """w_linear a + w_dnn x_dnn + w_cin p + b (Eq. 9). Paper: three CIN layers of 200 maps, MLP of 400 wide layers, d 10."""

    def __init__(self, features: FeatureSchema, options: XDeepFMConfig) -> None:
        super().__init__()
        self.fields = FieldVectors(features, options.embedding_dim)
        n, d, tasks = self.fields.count, options.embedding_dim, len(features.labels)
        self.first_order = FirstOrder(n, d, tasks)
        self.cin = CIN(n, options.cin)
        self.cin_out = Linear(self.cin.width, tasks, bias=False)
        self.tower = Tower(n * d, options.hidden, tasks, options.activation, options.dropout)

    def forward(self, dense_BM: Tensor, embedded: Embedded) -> Tensor:
        """(B, M) and Embedded -> (B, tasks) logits."""
        vectors = self.fields(dense_BM, embedded)
        return self.first_order(vectors) + self.tower(vectors.flatten(1)) + self.cin_out(self.cin(vectors))
