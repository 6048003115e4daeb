"""The candidate's side of a split model: what the user's side made once a request comes in, with the candidates; X_sum_c goes out.

Nothing here is read by the user's side, so one user's sequence work serves all candidates of a request. Legend: R requests,
C candidates, n_u and n_c tokens of the two sides, c tokens of each side's X_sum, s of S_sum, d channels.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from interformer_rec.config.model import ModelConfig
from interformer_rec.model.cross_arch import XSummary
from interformer_rec.model.embedding.embedded import Embedded
from interformer_rec.model.interaction_arch import InteractionArch
from interformer_rec.model.layers import block_norm
from interformer_rec.model.preprocess import Preprocess
from interformer_rec.model.sides import Side


class UserStates(NamedTuple):
    """All that the candidate's side and the heads read of the user's side."""

    reads: tuple[Tensor, ...]  # a layer: (R, n_u + s, d), normed [X_u ; S_sum]; flow n2s: X_u alone; no split: no layer
    summaries: Tensor  # (R, c + s, d): the last [X_sum_u ; S_sum]

    def of(self, request_of_candidate: Tensor) -> UserStates:
        """(C,) integers below R -> a row for each candidate."""
        reads = tuple(read.index_select(0, request_of_candidate) for read in self.reads)
        return UserStates(reads, self.summaries.index_select(0, request_of_candidate))


class CandidateSide(nn.Module):
    """X_c through the layers, then X_sum_c. A layer: X_c^(l+1) = MLP(Interaction([X_c^(l) ; X_u^(l) ; S_sum^(l)]))."""

    def __init__(self, side: Side, reads: int, updates: int, model: ModelConfig) -> None:
        super().__init__()
        d = model.d
        self.side = side
        self.preprocess = Preprocess(side.numbers, side.counts, (), 0, d, "separate", False)
        n = self.preprocess.tokens
        self.x_norms = nn.ModuleList(block_norm(d, model.normalise) for _ in range(updates + 1))
        self.interaction_archs = nn.ModuleList(
            InteractionArch(n, reads, d, model.interaction, model.activation, model.dropout) for _ in range(updates)
        )
        self.x_summary = XSummary(n, model.summary.x_tokens, d, model.summary.gating, model.activation)

    def forward(self, dense_CM: Tensor, embedded: Embedded, reads: tuple[Tensor, ...]) -> Tensor:
        """(C, c, d) from the candidate's columns, taken by `side`, and the users' `reads`."""
        x, _ = self.preprocess(dense_CM, embedded)
        *norms, last = self.x_norms
        for arch, norm, read in zip(self.interaction_archs, norms, reads, strict=True):
            x = arch(x, norm(x), read)
        return self.x_summary(last(x))
