"""Sequence Arch (paper, Eq. 8-9): S^(l+1) = MHA(PFFN(X_sum^(l), S^(l))), context-aware sequence learning.

Legend: B samples, c tokens of X_sum, J sequence tokens, d channels.
"""

from torch import Tensor, nn

from interformer_rec.config.model import ModelConfig
from interformer_rec.model.attention import RotaryAttention
from interformer_rec.model.layers import block_norm
from interformer_rec.model.pffn import PFFN_FORMS
from interformer_rec.model.sequence import Sequence


class SequenceArch(nn.Module):
    """One layer's update of one sequence; attention is bidirectional, ages turn the events, CLS tokens have no position.

    With a window an event reads its neighbourhood and the CLS tokens; CLS tokens and PMA read the whole history.
    """

    def __init__(self, model: ModelConfig, attends: bool) -> None:
        """`attends`: whether this layer has attention; without it the update is PFFN(X_sum, S) alone."""
        super().__init__()
        d, options = model.d, model.sequence
        self.pffn = PFFN_FORMS[options.pffn](model.summary.x_tokens, d, options.pffn_rank)
        self.attention_norm = block_norm(d, model.normalise) if attends else None
        self.attention = RotaryAttention(d, model.heads, options.window) if attends else None
        self.pffn_residual = options.pffn_residual
        self.attention_residual = options.attention_residual

    def forward(self, x_sum_BCD: Tensor, s: Sequence, s_n: Sequence) -> Sequence:
        """Personalise the tokens by X_sum, then let them read each other. `s_n` is s after the layer's norm."""
        values = self.pffn(x_sum_BCD, s_n.values, s.layout)
        values = s.values + values if self.pffn_residual else values
        if self.attention is None or self.attention_norm is None:
            return s._replace(values=values)
        attended = self.attention(self.attention_norm(values), s.layout, s.rotary)
        return s._replace(values=values + attended if self.attention_residual else attended)
