"""CIN, xDeepFM's compressed interaction network: (B, n, d) field vectors come in, (B, sum of H_k) pooled maps go out."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from interformer_rec.model.layers import fan_in_


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
