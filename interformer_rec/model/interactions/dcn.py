"""DCN: low-rank cross network, version 2 (Wang et al. 2021)."""

from __future__ import annotations

from torch import Tensor, nn

from interformer_rec.config.model import Activation, InteractionConfig
from interformer_rec.model.layers import LCE, Linear


class DCN(nn.Module):
    """x_{l+1} = x_0 * (U V x_l + b) + x_l on the flattened tokens, then an LCE from n_in to n_out tokens."""

    def __init__(
        self, n_in: int, n_out: int, d: int, options: InteractionConfig, activation: Activation, dropout: float
    ) -> None:
        super().__init__()
        del activation, dropout  # a cross layer has neither
        width, rank = n_in * d, min(options.dcn_rank, n_in * d)
        self.down = nn.ModuleList(Linear(width, rank, bias=False) for _ in range(options.dcn_layers))
        self.up = nn.ModuleList(Linear(rank, width) for _ in range(options.dcn_layers))
        self.out = LCE(n_in, n_out)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Interact."""
        first = x = tokens_BND.flatten(1)
        for down, up in zip(self.down, self.up, strict=True):
            x = x.addcmul(first, up(down(x)))
        return self.out(x.view_as(tokens_BND))
