"""Transformer blocks on padded events (BST, TransAct): (B, T, W) and a mask come in, (B, T, W) goes out."""

from collections.abc import Callable
from typing import Any

import torch
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
            if torch.compiler.is_compiling():
                return self._exported(x, mask_BT)
            hidden = ~mask_BT[rows, : x.shape[1]]
            for layer in self.layers:
                x = layer(x, src_key_padding_mask=hidden)
            return x

        return by_length(x_BTW, mask_BT.sum(1), blocks)

    def _exported(self, x_BTW: Tensor, mask_BT: Tensor) -> Tensor:
        """The layers in evaluation mode, written out: torch's attention reshapes its mask in a way that no graph of any length has."""
        for layer in self.layers:
            attention: Any = layer.self_attn
            projected = F.linear(x_BTW, attention.in_proj_weight, attention.in_proj_bias)
            q, k, v = (part.transpose(1, 2) for part in projected.unflatten(2, (3, attention.num_heads, -1)).unbind(2))
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_BT[:, None, None])
            x_BTW = layer.norm1(x_BTW + attention.out_proj(attended.transpose(1, 2).flatten(2)))
            x_BTW = layer.norm2(x_BTW + layer.linear2(layer.activation(layer.linear1(x_BTW))))
        return x_BTW
