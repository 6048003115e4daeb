"""Attention over a sequence: rotary self-attention between tokens (paper, Eq. 9) and pooling by learned queries (PMA).

Legend: J tokens of all samples (CLS tokens and events), H heads, C channels a head, P learned queries.
"""

import math

import torch
from torch import Tensor, nn

from interformer_rec.model.layers import Linear, fan_in_
from interformer_rec.ops.attention import Rotary, attention_pool, jagged_attention
from interformer_rec.ops.jagged import JaggedLayout
from interformer_rec.ops.rectangle import RectangleLayout


class RotaryAttention(nn.Module):
    """Bidirectional multi-head self-attention with rotary positions (Su et al. 2021). No biases: they would not change keys' ranks.

    `window`: events see their neighbourhood and the CLS tokens, which see all (ops.attention).
    """

    def __init__(self, d: int, heads: int, window: int | None = None) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.qk = Linear(d, 2 * d, bias=False)
        self.v = Linear(d, d, bias=False)
        self.out = Linear(d, d, bias=False)

    def forward(self, values_JD: Tensor, layout: JaggedLayout | RectangleLayout, rotary: Rotary) -> Tensor:
        """(J, d) -> (J, d)."""
        qk = self.qk(values_JD).unflatten(-1, (2, self.heads, -1))
        v = self.v(values_JD).unflatten(-1, (self.heads, -1))
        return self.out(jagged_attention(qk, v, layout, rotary, self.window).flatten(-2))


class PMA(nn.Module):
    """Pooling by multi-head attention (Lee et al. 2019, Set Transformer): P learned queries read a sample's events.

    Keys and values are linear, so the key map moves into the queries and the value map behind the pooling: the same numbers,
    without a key and a value for every event. No biases: an empty history gives zeros.
    """

    def __init__(self, d: int, heads: int, queries: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries = nn.Parameter(torch.randn(queries, d))
        self.key = nn.Parameter(fan_in_(torch.empty(d, d), d))
        self.value = nn.Parameter(fan_in_(torch.empty(d, d), d))
        self.out = Linear(d, d, bias=False)

    def forward(self, values_JD: Tensor, layout: JaggedLayout | RectangleLayout) -> Tensor:
        """(J, d) -> (B, P, d)."""
        (count, d), heads = self.queries.shape, self.heads
        channels = d // heads
        queries = self.queries.view(count, heads, channels) / math.sqrt(channels)
        maps = torch.einsum("phc,hcd->phd", queries, self.key.view(heads, channels, d)).reshape(count * heads, d)
        pooled = attention_pool(maps, values_JD, layout).view(-1, count, heads, d)
        value = torch.einsum("bphd,hcd->bphc", pooled, self.value.view(heads, channels, d).to(pooled.dtype))
        return self.out(value.reshape(-1, count, d))
