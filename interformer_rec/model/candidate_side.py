"""The candidate's side of a split model: what the user's side made once a request comes in, with the candidates; X_sum_c goes out.

Nothing here is read by the user's side, so one user's sequence work serves all candidates of a request. Legend: R requests,
C candidates, n_u and n_c tokens of the two sides, c tokens of each side's X_sum, s of S_sum, d channels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
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


class SharedStates(NamedTuple):
    """What the candidates' products over the user's tokens come to, worked out once: UserStates as `logits_of_requests` read them."""

    layers: tuple[list[Tensor], ...]  # of each layer what its interaction shares, (R, ...) each
    heads: list[Tensor]  # of each task: (R, w), what the summaries add to the head's first map

    def of(self, rows: Tensor) -> SharedStates:
        """(K,) integers below R -> a row for each of them."""
        layers = tuple([part.index_select(0, rows) for part in layer] for layer in self.layers)
        return SharedStates(layers, [part.index_select(0, rows) for part in self.heads])

    def flat(self) -> Tensor:
        """(R, floats): all of it, one part after another."""
        return torch.cat(
            [part.flatten(1) for part in (*itertools.chain.from_iterable(self.layers), *self.heads)], dim=1
        )


class SharedShapes(NamedTuple):
    """Of one request's SharedStates."""

    layers: tuple[list[tuple[int, ...]], ...]
    heads: list[tuple[int, ...]]

    @property
    def sizes(self) -> list[int]:
        """Floats of each part, in the order of `flat`."""
        return [math.prod(shape) for shape in (*itertools.chain.from_iterable(self.layers), *self.heads)]

    def of(self, parts: Iterator[Tensor]) -> SharedStates:
        """From the next (R, floats) of `parts`: the inverse of `flat`."""
        layers = tuple([next(parts).unflatten(1, shape) for shape in shapes] for shapes in self.layers)
        return SharedStates(layers, [next(parts).unflatten(1, shape) for shape in self.heads])


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

    @property
    def pays_from(self) -> float:
        """Candidates a request from which `shared` and `folded` take less work than `forward`."""
        archs: Iterable[Any] = self.interaction_archs
        return max([1.0, *(arch.interaction.pays_from for arch in archs)])

    def shared(self, reads: tuple[Tensor, ...]) -> tuple[list[Tensor], ...]:
        """What all candidates of a request share of each layer."""
        return tuple(arch.shared(read) for arch, read in zip(self.interaction_archs, reads, strict=True))

    @property
    def shared_shapes(self) -> tuple[list[tuple[int, ...]], ...]:
        """Of one request's parts of `shared`."""
        return tuple(arch.shared_shapes for arch in self.interaction_archs)

    def folded(self, dense_RTM: Tensor, embedded: Embedded, layers: tuple[list[Tensor], ...]) -> Tensor:
        """(R, T, c, d): as `forward` of T candidates of each request, with the reads that `layers` were made of."""
        fields = {width: values.flatten(0, 1) for width, values in embedded.fields.items()}
        tokens, _ = self.preprocess(dense_RTM.flatten(0, 1), Embedded(fields, {}))
        sizes = dense_RTM.shape[:2]
        x = tokens.unflatten(0, sizes)
        *norms, last = self.x_norms
        for arch, norm, parts in zip(self.interaction_archs, norms, layers, strict=True):
            x = arch.folded(x, norm(x), parts)
        return self.x_summary(last(x).flatten(0, 1)).unflatten(0, sizes)
