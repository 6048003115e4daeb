"""Transformer blocks on padded events (BST, TransAct): (B, T, W) and a mask come in, (B, T, W) goes out."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interformer_rec.errors import InputError
from interformer_rec.ops.buckets import plan_buckets


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
        """`mask_BT` is True at a sample's tokens, one at least, which come first; what comes out at padding means nothing.

        Samples of similar length go together: attention costs the square of what they are padded to.
        """
        widths, order = mask_BT.sum(1).sort()
        parts, first = [], 0
        for count, width in plan_buckets(widths.tolist()):
            rows = order[first : first + count]
            x, hidden = x_BTW[rows, :width], ~mask_BT[rows, :width]
            for layer in self.layers:
                x = layer(x, src_key_padding_mask=hidden)
            parts.append(F.pad(x, (0, 0, 0, x_BTW.shape[1] - width)))
            first += count
        return torch.cat(parts)[order.argsort()]
