"""DHEN: an ensemble of other interactions (Zhang et al. 2022)."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from interformer_rec.model.interactions.interaction import Interaction
from interformer_rec.model.layers import LCE, RMSNorm


class DHEN(Interaction):
    """Norm(merge of the members + shortcut): members map (B, n_in, d) -> (B, n_out, d).

    sum adds the members' tokens; concat puts them side by side on the token axis, and an LCE maps them back to n_out.
    """

    def __init__(self, members: Sequence[Interaction], n_in: int, n_out: int, d: int, merge: str) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.concat = LCE(len(self.members) * n_out, n_out) if merge == "concat" else None
        self.shortcut = LCE(n_in, n_out)
        self.norm = RMSNorm(d)
        self.shape, self.shapes = (n_out, d), [member.shared_shapes for member in members]

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Interact."""
        return self._merged([member(tokens_BND) for member in self.members], self.shortcut(tokens_BND))

    @property
    def pays_from(self) -> float:
        """As the member that needs most."""
        members: Iterable[Any] = self.members
        return max(member.pays_from for member in members)

    @property
    def shared_shapes(self) -> list[tuple[int, ...]]:
        """The shortcut's, then the members'."""
        return [self.shape, *itertools.chain.from_iterable(self.shapes)]

    def shared(self, read_RSD: Tensor) -> list[Tensor]:
        """See Interaction."""
        members = itertools.chain.from_iterable(member.shared(read_RSD) for member in self.members)
        return [self.shortcut.shared(read_RSD), *members]

    def folded(self, own_RTND: Tensor, parts: Sequence[Tensor]) -> Tensor:
        """See Interaction."""
        shortcut, *rest = parts
        given = iter(rest)
        members = zip(self.members, self.shapes, strict=True)
        outputs = [member.folded(own_RTND, [next(given) for _ in shapes]).flatten(0, 1) for member, shapes in members]
        return self._merged(outputs, self.shortcut.folded(own_RTND, shortcut).flatten(0, 1)).unflatten(
            0, own_RTND.shape[:2]
        )

    def _merged(self, outputs: list[Tensor], total: Tensor) -> Tensor:
        if self.concat is not None:
            outputs = [self.concat(torch.cat(outputs, dim=1))]
        for output in outputs:
            total = total + output
        return self.norm(total)
