"""Wukong: one layer of factorisation-machine and linear-compression blocks (Zhang et al. 2024)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from interformer_rec.config.model import Activation, InteractionConfig
from interformer_rec.model.interactions.interaction import Interaction
from interformer_rec.model.layers import LCE, MLP, RMSNorm, fan_in_
from interformer_rec.ops.token_mix import mix_tokens


class Wukong(Interaction):
    """Norm([FMB(X) ; LCB(X)] + shortcut(X)), (B, n_in, d) -> (B, n_out, d).

    FMB: X (X^T Y), the optimised FM, flattened -> norm -> MLP -> `fmb_tokens` tokens. LCB: a linear map on the token axis.
    """

    def __init__(
        self, n_in: int, n_out: int, d: int, options: InteractionConfig, activation: Activation, dropout: float
    ) -> None:
        super().__init__()
        fmb = min(options.fmb_tokens, n_out)
        rank = min(options.fmb_rank, n_in)
        self.y = nn.Parameter(fan_in_(torch.empty(n_in, rank), n_in))
        self.fm_norm = RMSNorm(n_in * rank)
        self.mlp = MLP(n_in * rank, options.hidden, fmb * d, activation, dropout)
        self.lcb = LCE(n_in, n_out - fmb) if n_out > fmb else None
        self.shortcut = LCE(n_in, n_out)
        self.norm = RMSNorm(d)
        self.shape, self.sizes = (fmb, d), (n_in, n_out, d)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Interact."""
        products = torch.bmm(tokens_BND, tokens_BND.transpose(1, 2) @ self.y)  # (B, n_in, rank)
        lcb = None if self.lcb is None else self.lcb(tokens_BND)
        return self._of(products, lcb, self.shortcut(tokens_BND))

    @property
    def shared_shapes(self) -> list[tuple[int, ...]]:
        """The tokens themselves, what they add to Y^T X, to the shortcut and to LCB."""
        n_in, n_out, d = self.sizes
        rank, (fmb, _) = self.y.shape[1], self.shape
        return [(n_in - n_out, d), (rank, d), (n_out, d), *([(n_out - fmb, d)] if self.lcb is not None else [])]

    def shared(self, read_RSD: Tensor) -> list[Tensor]:
        """See Interaction."""
        factors = mix_tokens(read_RSD, self.y[self.sizes[1] :].t())
        found = [read_RSD, factors, self.shortcut.shared(read_RSD)]
        return found if self.lcb is None else [*found, self.lcb.shared(read_RSD)]

    def folded(self, own_RTND: Tensor, parts: Sequence[Tensor]) -> Tensor:
        """See Interaction."""
        read, factors, shortcut, *lcb = parts
        own, sizes = own_RTND.flatten(0, 1), own_RTND.shape[:2]
        mixed = mix_tokens(own, self.y[: self.sizes[1]].t()).unflatten(0, sizes) + factors[:, None]  # (R, T, rank, d)
        of_own = torch.bmm(own, mixed.flatten(0, 1).transpose(1, 2))
        # (R, T, rank, s)
        of_read = torch.bmm(mixed.flatten(1, 2), read.transpose(1, 2)).view(*sizes, -1, read.shape[1])
        products = torch.cat([of_own, of_read.flatten(0, 1).transpose(1, 2)], dim=1)
        blocks = None if self.lcb is None else self.lcb.folded(own_RTND, lcb[0]).flatten(0, 1)
        return self._of(products, blocks, self.shortcut.folded(own_RTND, shortcut).flatten(0, 1)).unflatten(
            0, own_RTND.shape[:2]
        )

    def _of(self, products: Tensor, lcb: Tensor | None, shortcut: Tensor) -> Tensor:
        fmb = self.mlp(self.fm_norm(products.flatten(1))).unflatten(1, self.shape)
        return self.norm((fmb if lcb is None else torch.cat([fmb, lcb], dim=1)) + shortcut)
