"""Tower: the MLP of the comparison systems; (..., d_in) comes in, (..., d_out) goes out.

Beside layers.MLP it knows activations with parameters (PReLU, a slope a unit). DIN's Dice is not here: it reads statistics of
the batch, so a logit would depend on other rows, on the number of ranks, and on padding rows. Its paper compares both.
"""

import itertools
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from interformer_rec.config.baselines import TowerActivation
from interformer_rec.model.layers import Linear

_MODULES: dict[TowerActivation, Callable[[int], nn.Module]] = {
    "relu": lambda width: nn.ReLU(),
    "leaky_relu": lambda width: nn.LeakyReLU(),
    "prelu": nn.PReLU,
    "silu": lambda width: nn.SiLU(),
    "gelu": lambda width: nn.GELU(),
}


def activation_of(name: TowerActivation, width: int) -> nn.Module:
    """The activation for `width` units."""
    return _MODULES[name](width)


class Tower(nn.Sequential):
    """Linear maps, activation and dropout after each hidden one; with d_out None the last hidden units go out."""

    def __init__(
        self, d_in: int, hidden: Sequence[int], d_out: int | None, activation: TowerActivation, dropout: float = 0.0
    ) -> None:
        parts: list[nn.Module] = []
        for a, b in itertools.pairwise([d_in, *hidden]):
            parts += [Linear(a, b), activation_of(activation, b)]
            parts += [nn.Dropout(dropout)] * (dropout > 0)
        if d_out is not None:
            parts.append(Linear([d_in, *hidden][-1], d_out))
        super().__init__(*parts)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the maps in turn."""
        flat = super().forward(x.reshape(-1, x.shape[-1]))  # PReLU's channels are axis 1
        return flat.view(*x.shape[:-1], flat.shape[-1])
