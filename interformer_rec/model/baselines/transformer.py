"""Transformer blocks on padded events (BST, TransAct): (B, T, W) and a mask come in, (B, T, W) goes out."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from interformer_rec.errors import InputError
from interformer_rec.model.baselines.padded import by_length


def check_heads(heads: int, width: int) -> None:
    """Raise InputError where `heads` does not divide the width of an event."""
    if width % heads:
        raise InputError(
            f"model.heads = {heads} does not divide {width}, the width of an event (columns of the history times their "
            "embedding_dim; twice that for kind transact): choose heads that do, or another embedding_dim"
        )


class TransformerBlocks(nn.Module):
    """torch.nn.TransformerEncoderLayer (a norm after each residual, as in Vaswani et al. 2017), `layers` times."""

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        feedforward: int,
        dropout: float = 0.0,
        activation: Callable[[Tensor], Tensor] = F.relu,
    ) -> None:
        super().__init__()
        check_heads(heads, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, feedforward, dropout, activation, batch_first=True)
            for _ in range(layers)
        )

    def forward(self, x_BTW: Tensor, mask_BT: Tensor) -> Tensor:
        """`mask_BT` is True at a sample's tokens, one at least, which come first; what comes out at padding means nothing."""

        def blocks(x: Tensor, rows: Tensor) -> Tensor:
            hidden = ~(mask_BT if x is x_BTW else mask_BT[rows, : x.shape[1]])
            for layer in self.layers:
                x = layer(x, src_key_padding_mask=hidden)
            return x

        return by_length(x_BTW, mask_BT.sum(1), blocks)
