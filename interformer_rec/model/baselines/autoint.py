"""AutoInt+: dense columns and lookups come in, logits go out (Song et al. 2019, CIKM)."""

import torch
from torch import Tensor, nn

from interformer_rec.config.baselines import AutoIntConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.model.baselines.fields import FieldVectors
from interformer_rec.model.baselines.tower import Tower
from interformer_rec.model.embedding.embedded import Embedded
from interformer_rec.model.layers import Linear


class InteractingLayer(nn.Module):
    """relu([head_1 ; ... ; head_H] + W_res e_m), head_h = sum_k softmax_k(<W_q e_m, W_k e_k>) W_v e_k (Eq. 5-8): no scaling."""

    def __init__(self, d: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = Linear(d, heads * head_dim, bias=False)
        self.key = Linear(d, heads * head_dim, bias=False)
        self.value = Linear(d, heads * head_dim, bias=False)
        self.residual = Linear(d, heads * head_dim, bias=False)

    def forward(self, vectors_BND: Tensor) -> Tensor:
        """(B, n, d) -> (B, n, heads * head_dim)."""
        q, k, v = (
            part(vectors_BND).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        attended = (q @ k.transpose(2, 3)).softmax(-1) @ v
        return torch.relu(attended.transpose(1, 2).flatten(2) + self.residual(vectors_BND))


class AutoIntPlus(nn.Module):
    """Interacting layers and an MLP side by side on the fields' vectors, summed.

    Paper: d 16, three layers, two heads, 32 channels in all.
    """

    def __init__(self, features: FeatureSchema, options: AutoIntConfig) -> None:
        super().__init__()
        self.fields = FieldVectors(features, options.embedding_dim)
        n, d, tasks = self.fields.count, options.embedding_dim, len(features.labels)
        width = options.heads * options.head_dim
        self.layers = nn.ModuleList(
            InteractingLayer(width if i else d, options.heads, options.head_dim) for i in range(options.layers)
        )
        self.out = Linear(n * width, tasks)
        self.tower = Tower(n * d, options.hidden, tasks, options.activation, options.dropout)

    def forward(self, dense_BM: Tensor, embedded: Embedded) -> Tensor:
        """(B, M) and Embedded -> (B, tasks) logits."""
        x = vectors = self.fields(dense_BM, embedded)
        for layer in self.layers:
            x = layer(x)
        return self.out(x.flatten(1)) + self.tower(vectors.flatten(1))
