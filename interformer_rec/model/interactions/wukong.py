"""Wukong: one layer of factorisation-machine and linear-compression blocks (Zhang et al. 2024)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from interformer_rec.config.model import Activation, InteractionConfig
from interformer_rec.model.layers import LCE, MLP, RMSNorm, fan_in_


class Wukong(nn.Module):
    """Norm([FMB(X) ; LCB(X)] + shortcut(X)), (B, n_in, d) -> (B, n_out, d).

    FMB: X (X^T Y), the optimised FM, flattened -> norm -> MLP -> `fmb_tokens` tokens. LCB: a linear map on the token axis.
    """

    def __init__(
        self, n_in: int, n_out: int, d: int, options: InteractionConfig, activation: Activation, dropout: float
    ) -> None:
        super().__init__()
        fmb = min(options.fmb_tokens, n_out)
        rank = min(options.fmb_rank, n_in)
        self.y = nn.Parameter(fan_in_(torch.empty(n_in, rank), n_in))
        self.fm_norm = RMSNorm(n_in * rank)
        self.mlp = MLP(n_in * rank, options.hidden, fmb * d, activation, dropout)
        self.lcb = LCE(n_in, n_out - fmb) if n_out > fmb else None
        self.shortcut = LCE(n_in, n_out)
        self.norm = RMSNorm(d)
        self.shape = (fmb, d)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Interact."""
        products = torch.bmm(tokens_BND, tokens_BND.transpose(1, 2) @ self.y)  # (B, n_in, rank)
        fmb = self.mlp(self.fm_norm(products.flatten(1))).unflatten(1, self.shape)
        blocks = fmb if self.lcb is None else torch.cat([fmb, self.lcb(tokens_BND)], dim=1)
        return self.norm(blocks + self.shortcut(tokens_BND))
