"""Histories pooled before the first layer, as models without a Sequence Arch have it: event tokens come in, one token each goes out.

The comparison of the paper's study of information flow and aggregation (flow: sole). Legend: B samples, E events, d channels.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from interformer_rec.config.model import Activation
from interformer_rec.model.attention import PMA
from interformer_rec.model.layers import MLP
from interformer_rec.model.preprocess import EventTokens

NEWEST = 8  # events that the MLP reads


class EarlyPooling(nn.Module):
    """mean: of the events; mlp: of the newest 8, zeros where there are fewer; mha: one learned query. No event: no information."""

    def __init__(self, d: int, heads: int, kind: Literal["mean", "mlp", "mha"], activation: Activation) -> None:
        super().__init__()
        self.mlp = MLP(NEWEST * d, (d,), d, activation) if kind == "mlp" else None
        self.pma = PMA(d, heads, 1) if kind == "mha" else None

    def forward(self, events: EventTokens) -> Tensor:
        """-> (B, 1, d)."""
        # an operator on a layout wants a CLS token: it is not read
        values, layout = events.values, events.layout(1, parts=False)
        if self.mlp is None and self.pma is None:
            return layout.mean(values)[:, None]
        tokens = layout.prepend(values.new_zeros(layout.lengths.shape[0], 1, values.shape[-1]), values)
        if self.pma is not None:
            return self.pma(tokens, layout)
        assert self.mlp is not None
        return self.mlp(layout.take_summary(tokens, NEWEST)[:, 1:].flatten(1))[:, None]


def pool_all(poolings: nn.ModuleList, events: list[EventTokens]) -> Tensor:
    """(B, sequences, d): a token for each sequence."""
    return torch.cat([pooling(part) for pooling, part in zip(poolings, events, strict=True)], dim=1)
