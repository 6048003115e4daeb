"""DOT: pairwise inner products of tokens (Naumov et al. 2019, DLRM)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from interformer_rec.config.model import Activation, InteractionConfig
from interformer_rec.model.layers import LCE, MLP
from interformer_rec.ops.gram import packed_gram


class Dot(nn.Module):
    """(B, n_in, d) -> inner products of all pairs of tokens -> MLP -> (B, n_out, d).

    More than `dot_tokens` tokens are compressed to that many first (a learned map), so hundreds of fields stay affordable.
    """

    def __init__(
        self, n_in: int, n_out: int, d: int, options: InteractionConfig, activation: Activation, dropout: float
    ) -> None:
        super().__init__()
        kept = min(options.dot_tokens, n_in)
        self.compress = LCE(n_in, kept) if kept < n_in else nn.Identity()
        first, second = torch.triu_indices(kept, kept, offset=1)
        self.register_buffer("pairs", first * kept + second, persistent=False)
        self.mlp = MLP(self.pairs.numel(), options.hidden, n_out * d, activation, dropout)
        self.shape = (n_out, d)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Interact."""
        kept = self.compress(tokens_BND)
        products = packed_gram(kept, 1 / math.sqrt(self.shape[1]), self.pairs)
        return self.mlp(products).unflatten(1, self.shape)
