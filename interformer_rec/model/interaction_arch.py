"""Interaction Arch (paper, Eq. 7): X^(l+1) = MLP(Interaction([X^(l) ; S_sum^(l)])), behaviour-aware feature interaction.

An interaction is a class in interactions/ with the constructor of `Dot`, and a name here and in InteractionConfig.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from interformer_rec.config.model import Activation, InteractionConfig
from interformer_rec.model.interactions.dcn import DCN
from interformer_rec.model.interactions.dhen import DHEN
from interformer_rec.model.interactions.dot import Dot
from interformer_rec.model.interactions.interaction import Interaction
from interformer_rec.model.interactions.wukong import Wukong
from interformer_rec.model.layers import MLP

INTERACTIONS: dict[str, type[Interaction]] = {"dot": Dot, "dcn": DCN, "wukong": Wukong}


def build_interaction(
    n_in: int, n_out: int, d: int, options: InteractionConfig, activation: Activation, dropout: float
) -> Interaction:
    """The interaction the options name: (B, n_in, d) -> (B, n_out, d)."""
    sizes = (n_in, n_out, d)
    if options.kind != "dhen":
        return INTERACTIONS[options.kind](*sizes, options, activation, dropout)
    members = [INTERACTIONS[part](*sizes, options, activation, dropout) for part in options.parts]
    return DHEN(members, *sizes, options.merge)


class InteractionArch(nn.Module):
    """One layer's update of the n non-sequence tokens, which read the sequences through `s_tokens` tokens of S_sum."""

    def __init__(
        self, n: int, s_tokens: int, d: int, options: InteractionConfig, activation: Activation, dropout: float
    ) -> None:
        super().__init__()
        self.interaction = build_interaction(n + s_tokens, n, d, options, activation, dropout)
        self.mlp = MLP(d, (d,), d, activation, dropout)
        self.residual = options.residual

    def forward(self, x_BND: Tensor, x_n_BND: Tensor, s_sum_BSD: Tensor) -> Tensor:
        """(B, n, d) -> (B, n, d). `x_n_BND` is x after the layer's norm."""
        return self._after(x_BND, self.interaction(torch.cat([x_n_BND, s_sum_BSD], dim=1)))

    @property
    def shared_shapes(self) -> list[tuple[int, ...]]:
        """Of one request's parts of `shared`."""
        return self.interaction.shared_shapes

    def shared(self, s_sum_RSD: Tensor) -> list[Tensor]:
        """What S_sum adds for all candidates of a request: parts (R, ...)."""
        return self.interaction.shared(s_sum_RSD)

    def folded(self, x_RTND: Tensor, x_n_RTND: Tensor, parts: Sequence[Tensor]) -> Tensor:
        """As `forward` for T candidates of each request, with the S_sum that `parts` were made of."""
        return self._after(x_RTND, self.interaction.folded(x_n_RTND, parts))

    def _after(self, x_BND: Tensor, interacted: Tensor) -> Tensor:
        update = self.mlp(interacted)
        return x_BND + update if self.residual else update
