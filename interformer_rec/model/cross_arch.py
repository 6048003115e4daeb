"""Cross Arch (paper, Eq. 10-11): few tokens X_sum and S_sum through which each mode reads the other.

Legend: B samples, n non-sequence tokens, c = n_sum tokens of X_sum, P PMA tokens, K recent events of each of G groups, d channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from interformer_rec.model.attention import PMA
from interformer_rec.model.layers import LCE, GatingUnit
from interformer_rec.model.sequence import Sequence
from interformer_rec.model_config import Activation, Gating


class XSummary(nn.Module):
    """X_sum = Gating(LCE(X)): (B, n, d) -> (B, c, d)."""

    def __init__(self, n: int, x_tokens: int, d: int, gating: Gating, activation: Activation) -> None:
        super().__init__()
        self.lce = LCE(n, x_tokens)
        self.gating = GatingUnit(d, gating, activation)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Summarise the non-sequence tokens."""
        return self.gating(self.lce(x_BND))


class SSummary(nn.Module):
    """S_sum = Gating([S_CLS ; S_PMA ; S_recent]): a sequence -> (B, c + P + G * K, d).

    Recent events are each group's newest valid ones; a sample that has fewer gives zero tokens, and so does PMA of no event.
    """

    def __init__(
        self,
        d: int,
        heads: int,
        *,
        x_tokens: int,
        pma_tokens: int,
        recent_tokens: int,
        groups: int,
        cls: bool,
        gating: Gating,
        activation: Activation,
    ) -> None:
        super().__init__()
        self.pma = PMA(d, heads, pma_tokens) if pma_tokens else None
        self.gating = GatingUnit(d, gating, activation)
        self.recent_tokens = recent_tokens
        self.cls_tokens, self.keep_cls = x_tokens, cls
        self.tokens = cls * x_tokens + pma_tokens + groups * recent_tokens

    def forward(self, s: Sequence) -> Tensor:
        """Summarise one sequence."""
        parts = list(s.layout.take_summary(s.values, self.recent_tokens).tensor_split([self.cls_tokens], dim=1))
        if self.pma is not None:
            parts.insert(1, self.pma(s.values, s.layout))
        if not self.keep_cls:
            del parts[0]
        return self.gating(torch.cat(parts, dim=1))
