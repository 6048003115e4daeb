"""DOT: pairwise inner products of tokens (Naumov et al. 2019, DLRM)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from interformer_rec.config.model import Activation, InteractionConfig
from interformer_rec.model.interactions.interaction import Interaction
from interformer_rec.model.layers import LCE, MLP
from interformer_rec.ops.gram import packed_gram


class Dot(Interaction):
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
        self.shape, self.sizes = (n_out, d), (n_in, kept)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Interact."""
        return self._of(self.compress(tokens_BND))

    @property
    def shared_shapes(self) -> list[tuple[int, ...]]:
        """What the read tokens add to the kept ones, or the tokens themselves where all are kept."""
        kept = self.sizes[1] if isinstance(self.compress, LCE) else self.sizes[0] - self.shape[0]
        return [(kept, self.shape[1])]

    def shared(self, read_RSD: Tensor) -> list[Tensor]:
        """See Interaction."""
        return [self.compress.shared(read_RSD) if isinstance(self.compress, LCE) else read_RSD]

    def folded(self, own_RTND: Tensor, parts: Sequence[Tensor]) -> Tensor:
        """See Interaction."""
        (shared,) = parts
        if isinstance(self.compress, LCE):
            kept = self.compress.folded(own_RTND, shared)
        else:
            kept = torch.cat([own_RTND, shared[:, None].expand(-1, own_RTND.shape[1], -1, -1)], dim=2)
        return self._of(kept.flatten(0, 1)).unflatten(0, own_RTND.shape[:2])

    def _of(self, kept: Tensor) -> Tensor:
        products = packed_gram(kept, 1 / math.sqrt(self.shape[1]), self.pairs)
        return self.mlp(products).unflatten(1, self.shape)
