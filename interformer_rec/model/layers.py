"""The small parts every block is made of: linear maps with a stated start, RMSNorm, MLP, LCE, Gating.

Legend: B samples, n tokens, d channels. All weights start with variance 1 / fan-in, so a block keeps its input's scale.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interformer_rec.config.model import Activation, Gating
from interformer_rec.ops.gating import swish_gate
from interformer_rec.ops.norm import rms_norm
from interformer_rec.ops.token_mix import mix_tokens

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {"silu": F.silu, "gelu": F.gelu, "relu": F.relu}


def fan_in_(weight: Tensor, fan_in: int) -> Tensor:
    """Fill uniformly with variance 1 / fan_in."""
    bound = math.sqrt(3.0 / fan_in)
    with torch.no_grad():
        return weight.uniform_(-bound, bound)


class Linear(nn.Linear):
    """(..., d_in) -> (..., d_out); weights of variance 1 / d_in, bias 0."""

    def reset_parameters(self) -> None:
        """Called by nn.Linear's constructor."""
        fan_in_(self.weight, self.in_features)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class RMSNorm(nn.Module):
    """(..., d) -> (..., d), root mean square 1 times a learned gain."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(d))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        return rms_norm(x, self.gain)


def block_norm(d: int, normalise: bool) -> nn.Module:
    """The norm before a block; the paper's letter has none."""
    return RMSNorm(d) if normalise else nn.Identity()


class MLP(nn.Module):
    """(..., d_in) -> (..., d_out): linear maps with the activation, then dropout, between them."""

    def __init__(
        self, d_in: int, hidden: Sequence[int], d_out: int, activation: Activation, dropout: float = 0.0
    ) -> None:
        super().__init__()
        widths = [d_in, *hidden, d_out]
        self.linears = nn.ModuleList(Linear(a, b) for a, b in itertools.pairwise(widths))
        self.activation = ACTIVATIONS[activation]
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Apply the maps in turn."""
        return self._after_first(self.linears[0](x))

    def shared(self, x_RD: Tensor) -> Tensor:
        """What the first inputs add to the first map, where they are the same for all candidates of a request; with its bias."""
        first = self._first
        return F.linear(x_RD, first.weight[:, : x_RD.shape[1]], first.bias)

    @property
    def shared_shape(self) -> tuple[int, ...]:
        """Of one request's `shared`."""
        return (self._first.out_features,)

    def folded(self, x_RTD: Tensor, shared_RD: Tensor) -> Tensor:
        """(R, T, d_out): as `forward` of the inputs that `shared_RD` was made of and these of T candidates of each request."""
        own = F.linear(x_RTD, self._first.weight[:, -x_RTD.shape[2] :])
        return self._after_first(own + shared_RD[:, None])

    @property
    def _first(self) -> Linear:
        first = self.linears[0]
        assert isinstance(first, Linear)
        return first

    def _after_first(self, x: Tensor) -> Tensor:
        for linear in self.linears[1:]:
            x = self.activation(x)
            if self.dropout:
                x = F.dropout(x, self.dropout, self.training)
            x = linear(x)
        return x


class LCE(nn.Module):
    """(B, n_in, d) -> (B, n_out, d): a linear map on the token axis, the same for all channels (paper, Eq. 10)."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(fan_in_(torch.empty(n_out, n_in), n_in))

    def forward(self, x_BND: Tensor) -> Tensor:
        """Mix tokens."""
        return mix_tokens(x_BND, self.weight)

    def shared(self, read_RSD: Tensor) -> Tensor:
        """What the last s of the n_in tokens add, where they are the same for all candidates of a request: (R, n_out, d)."""
        return mix_tokens(read_RSD, self.weight[:, -read_RSD.shape[1] :])

    def folded(self, own_RTND: Tensor, shared_RMD: Tensor) -> Tensor:
        """(R, T, n_out, d): as `forward` of each candidate's own tokens and those that `shared_RMD` was made of."""
        return self.of_own(own_RTND) + shared_RMD[:, None]

    def of_own(self, own_RTND: Tensor) -> Tensor:
        """What the first n of the n_in tokens add."""
        mixed = mix_tokens(own_RTND.flatten(0, 1), self.weight[:, : own_RTND.shape[2]])
        return mixed.unflatten(0, own_RTND.shape[:2])


class GatingUnit(nn.Module):
    """(..., d) -> (..., d). swish: X * sigmoid(MLP(X)); sigmoid, tanh, identity: sigma(X * MLP(X)) (paper, Eq. 11); none: X.

    The paper's forms start with MLP(X) around 1, so that the product of small numbers does not vanish.
    """

    def __init__(self, d: int, kind: Gating, activation: Activation) -> None:
        super().__init__()
        self.kind = kind
        self.mlp = MLP(d, (d,), d, activation) if kind != "none" else None
        if self.mlp is not None and kind != "swish":
            nn.init.ones_(self.mlp.linears[-1].bias)

    def forward(self, x: Tensor) -> Tensor:
        """Select what passes."""
        if self.mlp is None:
            return x
        gate = self.mlp(x)
        if self.kind == "swish":
            return swish_gate(x, gate)
        product = x * gate
        if self.kind == "identity":
            return product
        return torch.sigmoid(product) if self.kind == "sigmoid" else torch.tanh(product)
