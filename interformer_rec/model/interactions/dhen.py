"""DHEN: an ensemble of other interactions (Zhang et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from interformer_rec.model.layers import LCE, RMSNorm


class DHEN(nn.Module):
    """Norm(merge of the members + shortcut): members map (B, n_in, d) -> (B, n_out, d).

    sum adds the members' tokens; concat puts them side by side on the token axis, and an LCE maps them back to n_out.
    """

    def __init__(self, members: Sequence[nn.Module], n_in: int, n_out: int, d: int, merge: str) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.concat = LCE(len(self.members) * n_out, n_out) if merge == "concat" else None
        self.shortcut = LCE(n_in, n_out)
        self.norm = RMSNorm(d)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Interact."""
        outputs = [member(tokens_BND) for member in self.members]
        if self.concat is not None:
            outputs = [self.concat(torch.cat(outputs, dim=1))]
        total = self.shortcut(tokens_BND)
        for output in outputs:
            total = total + output
        return self.norm(total)
