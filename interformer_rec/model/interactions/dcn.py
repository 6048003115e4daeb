"""DCN: low-rank cross network, version 2 (Wang et al. 2021)."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interformer_rec.config.model import Activation, InteractionConfig
from interformer_rec.model.interactions.interaction import Interaction
from interformer_rec.model.layers import LCE, Linear

FACTORS = 1 << 22  # floats of a map from a request's read tokens to its matrices; larger ones are not made


class DCN(Interaction):
    """x_{l+1} = x_0 * (U V x_l + b) + x_l on the flattened tokens, then an LCE from n_in to n_out tokens."""

    def __init__(
        self, n_in: int, n_out: int, d: int, options: InteractionConfig, activation: Activation, dropout: float
    ) -> None:
        super().__init__()
        del activation, dropout  # a cross layer has neither
        width, rank = n_in * d, min(options.dcn_rank, n_in * d)
        self.down = nn.ModuleList(Linear(width, rank, bias=False) for _ in range(options.dcn_layers))
        self.up = nn.ModuleList(Linear(rank, width) for _ in range(options.dcn_layers))
        self.out = LCE(n_in, n_out)
        self.sizes = (n_in, n_out, d, rank)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Interact."""
        first = x = tokens_BND.flatten(1)
        for down, up in zip(self.down, self.up, strict=True):
            x = x.addcmul(first, up(down(x)))
        return self.out(x.view_as(tokens_BND))

    @property
    def pays_from(self) -> float:
        """A request's matrices cost `s d n_out rank`; without them each candidate costs `s d (2 rank + n_out)`, for s read tokens."""
        _, n_out, _, rank = self.sizes
        return n_out * rank / (2 * rank + n_out)

    @property
    def shared_shapes(self) -> list[tuple[int, ...]]:
        """Of each layer a constant and a matrix for each earlier layer, both for h; then the same for the output."""
        (_, n_out, d, rank), layers = self.sizes, len(self.down)
        inner = [shape for layer in range(layers) for shape in [(rank,), *[(rank, rank)] * layer]]
        return [*inner, (n_out * d,), *[(n_out * d, rank)] * layers]

    def shared(self, read_RSD: Tensor) -> list[Tensor]:
        """The read tokens' part of x_l is read * (beta_l + U_0 h_0 + ... + U_{l-1} h_{l-1}), where h_l = V x_l is of `rank` numbers.

        It is linear in the h, so what it adds to h_l and to the output is a constant and a matrix for each h.
        """
        _, n_out, d, _ = self.sizes
        own = n_out * d
        flat_RW = read_RSD.flatten(1)
        beta_W, found = torch.ones_like(flat_RW[0]), []
        ups: list[Tensor] = []  # U of each layer so far, the read tokens' rows: (s d, rank)
        layers: Iterable[Any] = zip(self.down, self.up, strict=True)
        for down, up in layers:
            weight = down.weight[:, own:]
            found += [F.linear(flat_RW * beta_W, weight), *(_between(flat_RW, weight, one) for one in ups)]
            ups.append(up.weight[own:])
            beta_W = beta_W + up.bias[own:]
        found.append(self.out.shared((flat_RW * beta_W).view_as(read_RSD)).flatten(1))
        return [*found, *(self._mixed(read_RSD, one) for one in ups)]

    def _mixed(self, read_RSD: Tensor, up_WK: Tensor) -> Tensor:
        """(R, n_out d, rank): the output's LCE over diag(read) U."""
        (_, read, d), (_, n_out, _, rank) = read_RSD.shape, self.sizes
        weight_MS, up_SDK = self.out.weight[:, -read:], up_WK.view(read, d, rank)
        if n_out * up_WK.numel() > FACTORS:
            products = read_RSD[..., None] * up_SDK
            return self.out.shared(products.flatten(2)).reshape(-1, n_out * d, rank)
        factors_DSX = (weight_MS.t()[None, :, :, None] * up_SDK.transpose(0, 1)[:, :, None]).flatten(2)
        mixed_DRX = torch.bmm(read_RSD.permute(2, 0, 1), factors_DSX)
        return mixed_DRX.unflatten(2, (n_out, rank)).permute(1, 2, 0, 3).flatten(1, 2)

    def folded(self, own_RTND: Tensor, parts: Sequence[Tensor]) -> Tensor:
        """See Interaction."""
        own, given = self.sizes[1] * self.sizes[2], iter(parts)
        first = x = own_RTND.flatten(2)
        inners: list[Tensor] = []  # h of each layer so far: (R, T, rank)
        layers: Iterable[Any] = zip(self.down, self.up, strict=True)
        for down, up in layers:
            inner = F.linear(x, down.weight[:, :own]) + next(given)[:, None]
            for earlier in inners:
                inner = inner + torch.bmm(earlier, next(given).transpose(1, 2))
            inners.append(inner)
            x = x.addcmul(first, F.linear(inner, up.weight[:own], up.bias[:own]))
        total = next(given)[:, None]
        for inner in inners:
            total = total + torch.bmm(inner, next(given).transpose(1, 2))
        return self.out.of_own(x.unflatten(2, own_RTND.shape[2:])) + total.unflatten(2, own_RTND.shape[2:])


def _between(read_RW: Tensor, down_KW: Tensor, up_WK: Tensor) -> Tensor:
    """(R, rank, rank): V diag(read) U."""
    factors = (down_KW.t()[:, :, None] * up_WK[:, None]).flatten(1)
    return (read_RW @ factors).unflatten(1, (down_KW.shape[0], up_WK.shape[1]))
