"""DCN V2: dense columns and lookups come in, logits go out (Wang et al. 2021, WWW)."""

import torch
from torch import Tensor, nn

from interformer_rec.config.baselines import DCNv2Config, TransActConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.model.baselines.fields import FlatFields
from interformer_rec.model.baselines.tower import Tower
from interformer_rec.model.embedding.embedded import Embedded
from interformer_rec.model.layers import Linear


class CrossNetwork(nn.Module):
    """x_(l+1) = x_0 * (W_l x_l + b_l) + x_l (Eq. 1); with a rank, W = U V^T, its low-rank form."""

    def __init__(self, width: int, layers: int, rank: int | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Linear(width, width)
            if rank is None or rank >= width
            else nn.Sequential(Linear(width, rank, bias=False), Linear(rank, width))
            for _ in range(layers)
        )

    def forward(self, x_BW: Tensor) -> Tensor:
        """Cross."""
        x = x_BW
        for layer in self.layers:
            x = x.addcmul(x_BW, layer(x))
        return x


class ParallelCross(nn.Module):
    """The parallel structure: a linear map of [x_cross ; h_deep]; (B, width) -> (B, tasks). TransAct ends in it too."""

    def __init__(self, width: int, tasks: int, options: DCNv2Config | TransActConfig) -> None:
        super().__init__()
        self.cross = CrossNetwork(width, options.cross_layers, options.cross_rank)
        self.deep = Tower(width, options.hidden, None, options.activation, options.dropout)
        self.out = Linear(width + options.hidden[-1], tasks)

    def forward(self, x_BW: Tensor) -> Tensor:
        """Cross and deep side by side."""
        return self.out(torch.cat([self.cross(x_BW), self.deep(x_BW)], dim=1))


class DCNv2(nn.Module):
    """Cross network and MLP on all vectors and dense columns side by side. Histories are mean-pooled fields."""

    def __init__(self, features: FeatureSchema, options: DCNv2Config) -> None:
        super().__init__()
        self.fields = FlatFields(features, options.embedding_dim, histories=True)
        self.parallel = ParallelCross(self.fields.width, len(features.labels), options)

    def forward(self, dense_BM: Tensor, embedded: Embedded) -> Tensor:
        """(B, M) and Embedded -> (B, tasks) logits."""
        return self.parallel(self.fields(dense_BM, embedded))
