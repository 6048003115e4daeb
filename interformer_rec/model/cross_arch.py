"""Cross Arch (paper, Eq. 10-11): few tokens X_sum and S_sum through which each mode reads the other.

Legend: B samples, n non-sequence tokens, c = n_sum tokens of X_sum, P PMA tokens, K recent events of each of G groups, d channels.
"""

import torch
from torch import Tensor, nn

from interformer_rec.config.model import Activation, Gating, ModelConfig
from interformer_rec.model.attention import PMA
from interformer_rec.model.layers import LCE, GatingUnit, block_norm
from interformer_rec.model.sequence import Sequence


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

    def __init__(self, model: ModelConfig, groups: int) -> None:
        """`groups`: of events in the sequence."""
        super().__init__()
        d, options = model.d, model.summary
        self.pma = PMA(d, model.heads, options.pma_tokens) if options.pma_tokens else None
        self.gating = GatingUnit(d, options.gating, model.activation)
        self.recent_tokens = options.recent_tokens
        self.cls_tokens, self.keep_cls = options.x_tokens, options.cls
        self.tokens = options.cls * options.x_tokens + options.pma_tokens + groups * options.recent_tokens

    def forward(self, s: Sequence) -> Tensor:
        """Summarise one sequence."""
        parts = list(s.layout.take_summary(s.values, self.recent_tokens).tensor_split([self.cls_tokens], dim=1))
        if self.pma is not None:
            parts.insert(1, self.pma(s.values, s.layout))
        if not self.keep_cls:
            del parts[0]
        return self.gating(torch.cat(parts, dim=1))


class CrossArch(nn.Module):
    """A layer's two summaries (paper, Eq. 10-11), with the norm before the layer's blocks."""

    def __init__(self, n: int, groups: list[int], model: ModelConfig) -> None:
        super().__init__()
        summary, d = model.summary, model.d
        self.x_norm = block_norm(d, model.normalise)
        self.x_summary = XSummary(n, summary.x_tokens, d, summary.gating, model.activation)
        self.s_norms = nn.ModuleList(block_norm(d, model.normalise) for _ in groups)
        self.s_summaries = nn.ModuleList(SSummary(model, count) for count in groups)
        self.s_tokens = sum(s.tokens for s in self.s_summaries)

    def norms(self, x_BND: Tensor, s: list[Sequence]) -> tuple[Tensor, list[Sequence]]:
        """X and the sequences as the layer's blocks read them."""
        return self.x_norm(x_BND), self.s_norm(s)

    def s_norm(self, s: list[Sequence]) -> list[Sequence]:
        """Each sequence with a norm of its own."""
        return [one._replace(values=norm(one.values)) for norm, one in zip(self.s_norms, s, strict=True)]

    def forward(self, x_n_BND: Tensor, s_n: list[Sequence]) -> tuple[Tensor, Tensor]:
        """X_sum (B, c, d) and S_sum (B, s, d) of normed tokens."""
        return self.x_summary(x_n_BND), self.s_summary(s_n, x_n_BND)

    def s_summary(self, s_n: list[Sequence], x_n_BND: Tensor) -> Tensor:
        """S_sum: the sequences' summaries one after another on the token axis; without a sequence no token, like X's."""
        summaries = [summary(one) for summary, one in zip(self.s_summaries, s_n, strict=True)]
        return torch.cat(summaries, dim=1) if summaries else x_n_BND[:, :0]
