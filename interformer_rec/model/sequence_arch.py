"""Sequence Arch (paper, Eq. 8-9): S^(l+1) = MHA(PFFN(X_sum^(l), S^(l))), context-aware sequence learning.

Legend: B samples, c tokens of X_sum, J sequence tokens, d channels, r inner width. A PFFN form is a class (c, d, rank) with
forward(x_sum_BCD, values_JD, layout) -> (J, d), and a name in PFFN_FORMS and in SequenceConfig.pffn.
"""

from __future__ import annotations

from torch import Tensor, nn

from interformer_rec.model.attention import RotaryAttention
from interformer_rec.model.layers import Linear, block_norm, fan_in_
from interformer_rec.model.sequence import Sequence
from interformer_rec.ops.jagged import JaggedLayout
from interformer_rec.ops.per_sample_ffn import per_sample_ffn, per_sample_linear


class TwoLayerPFFN(nn.Module):
    """gelu(S W1_i) W2_i; W1_i (d x r) and W2_i (r x d) are generated from the flattened X_sum of sample i.

    Full rank min(r, d), unlike the appendix form. The generator's bias is the FFN all samples share; it starts at the usual
    variance 1 / fan-in, and X_sum's part a fourth of that.
    """

    def __init__(self, x_tokens: int, d: int, rank: int) -> None:
        super().__init__()
        self.d, self.rank = d, rank
        self.w1 = self._generator(x_tokens * d, d, rank)
        self.w2 = self._generator(x_tokens * d, rank, d)

    @staticmethod
    def _generator(width: int, rows: int, columns: int) -> Linear:
        generator = Linear(width, rows * columns)
        fan_in_(generator.weight, 4 * width * rows)
        fan_in_(generator.bias, rows)
        return generator

    def forward(self, x_sum_BCD: Tensor, values_JD: Tensor, layout: JaggedLayout) -> Tensor:
        """Generate each sample's FFN and apply it to its tokens."""
        flat = x_sum_BCD.flatten(1)
        w1 = self.w1(flat).view(-1, self.d, self.rank)
        w2 = self.w2(flat).view(-1, self.rank, self.d)
        return per_sample_ffn(values_JD, w1, w2, layout)


class AppendixPFFN(nn.Module):
    """W_i S with W_i = X_sum W' (d x c times c x d, paper's appendix): rank c, so S W'^T first, then X_sum."""

    def __init__(self, x_tokens: int, d: int, rank: int) -> None:
        super().__init__()
        del rank  # the form has none to choose
        self.w = Linear(d, x_tokens, bias=False)

    def forward(self, x_sum_BCD: Tensor, values_JD: Tensor, layout: JaggedLayout) -> Tensor:
        """Apply each sample's matrix to its tokens."""
        return per_sample_linear(self.w(values_JD), x_sum_BCD, layout)


PFFN_FORMS: dict[str, type[nn.Module]] = {"two_layer": TwoLayerPFFN, "appendix": AppendixPFFN}


class SequenceArch(nn.Module):
    """One layer's update of one sequence; attention is bidirectional, ages turn the events, CLS tokens have no position."""

    def __init__(
        self,
        d: int,
        heads: int,
        *,
        x_tokens: int,
        pffn: str,
        pffn_rank: int,
        pffn_residual: bool,
        attention_residual: bool,
        normalise: bool,
    ) -> None:
        super().__init__()
        self.pffn = PFFN_FORMS[pffn](x_tokens, d, pffn_rank)
        self.attention_norm = block_norm(d, normalise)
        self.attention = RotaryAttention(d, heads)
        self.pffn_residual = pffn_residual
        self.attention_residual = attention_residual

    def forward(self, x_sum_BCD: Tensor, s: Sequence, s_normed_JD: Tensor) -> Sequence:
        """Personalise the tokens by X_sum, then let them read each other. `s_normed_JD` is s after the layer's norm."""
        values = self.pffn(x_sum_BCD, s_normed_JD, s.layout)
        values = s.values + values if self.pffn_residual else values
        attended = self.attention(self.attention_norm(values), s.layout, s.rotary)
        return s._replace(values=values + attended if self.attention_residual else attended)
