"""PFFN, the personalised FFN of the Sequence Arch (paper, Eq. 8): X_sum and a sequence's tokens come in, transformed tokens go out.

Every token of a sample passes through weights that are generated from that sample's X_sum. A form is a class (c, d, rank) with
forward(x_sum_BCD, values_JD, layout) -> (J, d), and a name in PFFN_FORMS and in SequenceConfig.pffn. Forms with `weights` are
the FFN gelu(S W1_i) W2_i. Legend: B samples, c tokens of X_sum, J sequence tokens, d channels, r inner width.
"""

import torch
from torch import Tensor, nn

from interformer_rec.model.layers import LCE, Linear, fan_in_
from interformer_rec.ops.jagged import JaggedLayout
from interformer_rec.ops.per_sample_ffn import per_sample_ffn, per_sample_linear
from interformer_rec.ops.rectangle import RectangleLayout

Layout = JaggedLayout | RectangleLayout


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

    def weights(self, x_sum_BCD: Tensor) -> tuple[Tensor, Tensor]:
        """(B, c, d) -> (B, d, r) and (B, r, d)."""
        flat = x_sum_BCD.flatten(1)
        return self.w1(flat).view(-1, self.d, self.rank), self.w2(flat).view(-1, self.rank, self.d)

    def forward(self, x_sum_BCD: Tensor, values_JD: Tensor, layout: Layout) -> Tensor:
        """Generate each sample's FFN and apply it to its tokens."""
        return per_sample_ffn(values_JD, *self.weights(x_sum_BCD), layout)


class GDPA(nn.Module):
    """Generalised dot-product attention, act(S K_i^T / tau) V_i: keys and values are r mixes of the projected tokens of X_sum.

    K_i = K_0 + M_K X_sum W_K, V_i alike: an FFN that all samples share and a personal part of rank c, for r * c * d products a
    sample where the two-layer form needs c * d * d * r. 1 / tau is in the starting scale, a half of the variance each part.
    """

    def __init__(self, x_tokens: int, d: int, rank: int) -> None:
        super().__init__()
        self.key, self.value = Linear(d, d, bias=False), Linear(d, d, bias=False)
        self.key_mix, self.value_mix = LCE(x_tokens, rank), LCE(x_tokens, rank)
        self.keys = nn.Parameter(fan_in_(torch.empty(rank, d), 2 * d))
        self.values = nn.Parameter(fan_in_(torch.empty(rank, d), 2 * rank))
        with torch.no_grad():
            self.key.weight.div_((2 * d) ** 0.5)
            self.value.weight.div_((2 * rank) ** 0.5)

    def weights(self, x_sum_BCD: Tensor) -> tuple[Tensor, Tensor]:
        """(B, c, d) -> K^T (B, d, r) and V (B, r, d)."""
        keys = self.keys + self.key_mix(self.key(x_sum_BCD))
        return keys.transpose(1, 2), self.values + self.value_mix(self.value(x_sum_BCD))

    def forward(self, x_sum_BCD: Tensor, values_JD: Tensor, layout: Layout) -> Tensor:
        """Tokens attend to their sample's keys."""
        return per_sample_ffn(values_JD, *self.weights(x_sum_BCD), layout)


class AppendixPFFN(nn.Module):
    """W_i S with W_i = X_sum W' (d x c times c x d, paper's appendix): rank c, so S W'^T first, then X_sum."""

    def __init__(self, x_tokens: int, d: int, rank: int) -> None:
        super().__init__()
        del rank  # the form has none to choose
        self.w = Linear(d, x_tokens, bias=False)

    def forward(self, x_sum_BCD: Tensor, values_JD: Tensor, layout: Layout) -> Tensor:
        """Apply each sample's matrix to its tokens."""
        return per_sample_linear(self.w(values_JD), x_sum_BCD, layout)


PFFN_FORMS: dict[str, type[nn.Module]] = {
    "two_layer": TwoLayerPFFN,
    "gdpa": GDPA,
    "appendix": AppendixPFFN,
}
