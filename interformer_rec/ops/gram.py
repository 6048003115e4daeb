"""Inner products of all pairs of a sample's tokens: (B, n, d) comes in, (B, n (n - 1) / 2) goes out, row by row for i < j."""

import torch
from torch import Tensor

from interformer_rec.ops.backend import HAS_TRITON, IN_GRAPHS, runs, takes_row_kernels

if HAS_TRITON:
    from interformer_rec.ops.triton.gram import Gram


@runs(kernel=True, **IN_GRAPHS)
def packed_gram(x_BND: Tensor, scale: float, pairs_P: Tensor) -> Tensor:
    """scale * x_i . x_j for i < j. `pairs`: their places i * n + j in the square, for the plain form."""
    if takes_row_kernels(x_BND, x_BND.shape[2]):
        return Gram.apply(x_BND, scale)
    return (torch.bmm(x_BND, x_BND.transpose(1, 2)).flatten(1) * scale).index_select(1, pairs_P)
