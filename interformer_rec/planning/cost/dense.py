"""What InterFormer's dense part costs a rank and step. In: features, model options, list lengths, rows; out: bytes and FLOPs by block.

Counted from the code of model/, block by block: the tensors autograd keeps until the backward pass, each once, and the matrix
products of the forward pass (backward takes twice as many). tests/planning/test_dense.py holds both against torch: saved-tensor
hooks and its FLOP counter. Legend: B rows, n tokens of X, c tokens of X_sum, S of S_sum, d channels, E events, J = E + B c tokens
of a sequence, N slots of its padded form, k columns of width w, H heads, P PMA queries.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.model import InteractionConfig, ModelConfig
from interformer_rec.model.embedding.embedded import table_dims
from interformer_rec.model.sides import both_sides
from interformer_rec.planning.cost.sizes import Sizes
from interformer_rec.planning.jagged_shape import Shape

DRAWN_ROWS = 8192  # rows whose lengths are laid out; larger batches are multiples of them
SINGLE, LONG, COMPLEX = 4, 8, 8  # bytes of float32, int64, complex64


@dataclass(frozen=True)
class DenseCost:
    """Of one rank and step."""

    activations: dict[str, int]  # block -> bytes kept for the backward pass
    forward_flops: dict[str, int]  # block -> FLOPs of its matrix products
    looked_up: int  # bytes of the vectors that come back from the tables, before they are put side by side
    kernels: int  # operators started in forward and backward pass, views not counted
    shapes: tuple[Shape, ...]

    @property
    def activation_bytes(self) -> int:
        """All blocks."""
        return sum(self.activations.values())

    @property
    def flops(self) -> int:
        """Forward and backward."""
        return 3 * sum(self.forward_flops.values())


def dense_cost(
    features: FeatureSchema, model: ModelConfig, sizes: Sizes, rows: int, precision: str, l2: bool
) -> DenseCost:
    """Cost of a batch of `rows` rows with typical lengths; `precision` fp32 or bf16 (autocast), `l2` as optimizer.embedding.l2 > 0."""
    return _Count(features, model, sizes, rows, 2 if precision == "bf16" else 4, l2).run()


class _Count:
    """Walks the model as its forward pass does."""

    def __init__(
        self, features: FeatureSchema, model: ModelConfig, sizes: Sizes, rows: int, half: int, l2: bool
    ) -> None:
        self.features, self.model, self.rows, self.l2, self.sizes = features, model, rows, l2, sizes
        self.half = half  # bytes of a number in matrix products
        self.bytes: dict[str, int] = defaultdict(int)
        self.flops: dict[str, int] = defaultdict(int)
        drawn = min(rows, DRAWN_ROWS)
        self.scale = rows / drawn
        self.widths = {g.name: sizes.of_lookup(g.name).widths(drawn) for g in features.sequences}
        self.merge = model.sequence.merge if len(features.sequences) > 1 else "separate"
        summary, groups = model.summary, len(features.sequences)
        self.sides = both_sides(features, model.embedding_dim, model.split)[: 1 + model.split]  # the user's first
        self.numbers = [side.numbers for side in self.sides]
        self.numbers[0] += groups * model.sequence.lengths
        self.n = [bool(m) + sum(side.counts.values()) for m, side in zip(self.numbers, self.sides, strict=True)]
        self.parts = {"masknet": [1], "separate": [1] * groups, "concat": [groups], "union": [1]}[self.merge]
        cls = summary.cls * summary.x_tokens
        self.s_tokens = [cls + summary.pma_tokens + g * summary.recent_tokens for g in self.parts]
        self.shapes = [
            Shape.of(w, summary.x_tokens, g, self.scale) for w, g in zip(self._merged(), self.parts, strict=True)
        ]

    def run(self) -> DenseCost:
        """The whole forward pass."""
        model = self.model
        updates = model.layers if model.final_cross else model.layers - 1
        looked_up = self._preprocess()
        for shape in self.shapes:
            self._layout(shape)
        for _ in range(updates + 1):
            self._cross_arch()
        if model.split:
            self._norm("cross_arch", (updates + 1) * self.rows * self.n[1] * model.normalise, model.d)
            self._x_summary(self.n[1])
        for _ in range(updates):
            for side, n in enumerate(self.n):  # the candidate's reads the user's tokens too
                self._interaction_arch(n, sum(self.n[: side + 1]) + sum(self.s_tokens))
            for shape in self.shapes:
                self._sequence_arch(shape)
        width = (model.summary.x_tokens * len(self.sides) + sum(self.s_tokens)) * model.d
        self._keep("heads", self.rows * width * self.half)
        for _ in self.features.labels:
            self._mlp("heads", self.rows, [width, *model.head, 1], dropout=True)
        return DenseCost(dict(self.bytes), dict(self.flops), looked_up, self._kernels(updates), tuple(self.shapes))

    def _kernels(self, updates: int) -> int:
        """Fitted to counts by a dispatch mode: 60 + 250 a sequence, 132 a layer, 126 a layer and sequence, 25 a further bucket;
        a split's candidate side 90, and 115 a layer; embedding sets 200, and 150 for each that rests (zero gradients, for DDP).
        """
        merged_away = len(self.features.sequences) - len(self.shapes)
        per_layer = 132 + sum(126 + 25 * (shape.buckets - 1) for shape in self.shapes)
        candidate = self.model.split * (90 + 115 * updates)
        sets = self.model.embedding_sets
        resting = (sets > 1) * 200 + (sets - 1) * 150
        return 60 + 250 * len(self.shapes) + 90 * merged_away + updates * per_layer + candidate + resting

    def _merged(self) -> list[np.ndarray]:
        """Event counts of each sequence; a row that is long in one group is taken to be long in all, and a union to share no event."""
        counts = list(self.widths.values())
        if self.merge == "masknet":
            return [np.max(counts, axis=0)]
        return [np.sum(counts, axis=0)] if self.merge in ("concat", "union") else counts

    def _keep(self, block: str, count: float) -> None:
        self.bytes[block] += int(count)

    def _norm(self, block: str, vectors: int, width: int) -> None:
        """RMSNorm keeps its input and one number a vector."""
        self._keep(block, vectors * (width + 1) * SINGLE)

    def _product(self, block: str, rows: int, inner: int, outer: int) -> None:
        self.flops[block] += 2 * rows * inner * outer

    def _mlp(self, block: str, rows: int, widths: list[int], dropout: bool = False) -> None:
        """Hidden layers before and after the activation; the input is counted by who makes it."""
        for i, (inner, outer) in enumerate(itertools.pairwise(widths)):
            self._product(block, rows, inner, outer)
            if i < len(widths) - 2:
                self._keep(block, 2 * rows * outer * self.half)
                if (
                    dropout and self.model.dropout
                ):  # what came out of it, and the mask (a byte on CUDA, a number on CPU)
                    self._keep(block, 2 * rows * outer * self.half)

    def _gating(self, block: str, rows: int) -> None:
        """Input, hidden layer before and after, gate; the paper's forms keep their result too."""
        kind, d = self.model.summary.gating, self.model.d
        if kind == "none":
            return
        self._keep(block, rows * d * (SINGLE + self.half * (2 if kind in ("sigmoid", "tanh") else 1)))
        self._mlp(block, rows, [d, d, d])

    def _preprocess(self) -> int:
        block, rows, d, features = "preprocess", self.rows, self.model.d, self.features
        for side, numbers in zip(self.sides, self.numbers, strict=True):
            if numbers:
                self._norm(block, rows, d)
                self._product(block, rows, numbers, d)
                self._keep(
                    block, rows * numbers * self.half * (numbers != len(features.dense))
                )  # joined or cut columns
            for dim, count in side.counts.items():
                self._norm(block, rows * count, dim)
                if dim != d:
                    self._keep(block, rows * count * dim * self.half)
                    self._product(block, rows * count, dim, d)
        dims = table_dims(
            features, self.model.embedding_dim, self.model.embedding_sets
        )  # a step teaches one set of them
        looked_up = rows * sum(dims[lookup.table] for lookup in features.pooled_lookups) * SINGLE
        for lookup in features.jagged_lookups:
            elements = round(self.sizes.of_lookup(lookup.key).mean * rows)
            looked_up += elements * dims[lookup.table] * SINGLE
            if lookup.pooling:
                self._keep(block, elements * LONG)  # segments
        if self.l2:
            self._keep(block, looked_up)
        event_dim = dims[features.sequences[0].columns[0].table] // self.model.embedding_sets
        kept = {g.name: len(g.columns) * event_dim for g in features.sequences}
        for name, width in kept.items():
            events = round(float(self.widths[name].sum()) * self.scale)
            self._norm(block, events * width // event_dim, event_dim)
            if self.merge != "masknet":
                self._masknet(block, events, width)
        if self.merge == "masknet":
            self._masknet(block, self.shapes[0].events, sum(kept.values()))
        return looked_up

    def _masknet(self, block: str, events: int, width: int) -> None:
        """S_cat, its mask, their product."""
        self._keep(block, 3 * events * width * self.half)
        self._product(block, events, width, width)
        self._product(block, events, width, self.model.d)

    def _layout(self, s: Shape) -> None:
        """Index plans, masks and the rotary table: made once a batch, used by all layers."""
        plans = s.slots * (2 * LONG + 1 + SINGLE) + s.tokens * (3 * LONG + 1)
        self._keep("layout", plans + s.tokens * self.model.d * COMPLEX)

    def _cross_arch(self) -> None:
        block, model, rows, d = "cross_arch", self.model, self.rows, self.model.d
        summary = model.summary
        if model.normalise:
            self._norm(block, rows * self.n[0], d)
        self._x_summary(self.n[0])
        for s, tokens in zip(self.shapes, self.s_tokens, strict=True):
            if model.normalise:
                self._norm(block, s.tokens, d)
            if summary.pma_tokens:
                maps = summary.pma_tokens * model.heads
                self._keep(block, s.slots * (d + maps) * self.half + rows * maps * d * self.half)
                self._product(block, s.slots, d, 2 * maps)  # scores and weighted sums
                self._product(block, rows * summary.pma_tokens, d, 2 * d)
                self._keep(block, rows * summary.pma_tokens * d * self.half)
            self._gating(block, rows * tokens)

    def _x_summary(self, n: int) -> None:
        block, rows, d, tokens = "cross_arch", self.rows, self.model.d, self.model.summary.x_tokens
        self._keep(block, rows * n * d * SINGLE)  # what the LCE reads
        self._product(block, rows * d, n, tokens)
        self._gating(block, rows * tokens)

    def _sequence_arch(self, s: Shape) -> None:
        block, d, rows = "sequence_arch", self.model.d, self.rows
        options, c = self.model.sequence, self.model.summary.x_tokens
        if options.pffn in ("two_layer", "gdpa"):
            rank = options.pffn_rank
            self._keep(block, rows * (c * d + 2 * d * rank) * self.half)  # X_sum and each row's two matrices
            self._product(block, rows * d, c * d if options.pffn == "two_layer" else c, 2 * rank)
            if options.pffn == "gdpa":
                self._keep(block, rows * 2 * c * d * self.half)  # the projected tokens
                self._product(block, rows * c, d, 2 * d)
            self._keep(block, s.slots * (d + 2 * rank) * self.half)
            self._product(block, s.slots, d, 2 * rank)
        else:
            self._keep(block, (s.tokens * d + s.slots * c + rows * c * d) * self.half)
            self._product(block, s.tokens, d, c)
            self._product(block, s.slots, c, d)
        if self.model.normalise:
            self._norm(block, s.tokens, d)
        self._keep(block, s.tokens * 2 * d * self.half)  # what Q, K, V and the output map read
        self._keep(block, s.slots * (4 * d * self.half + self.model.heads * SINGLE))  # Q, K, V, output; log-sum-exp
        self._product(block, s.tokens, d, 4 * d)
        self.flops[block] += 4 * s.squares * d

    def _interaction_arch(self, n: int, n_in: int) -> None:
        block, model, rows, d = "interaction_arch", self.model, self.rows, self.model.d
        options = model.interaction
        self._keep(block, rows * n_in * d * SINGLE)  # [X ; S_sum], read by every member
        for part in options.parts if options.kind == "dhen" else (options.kind,):
            {"dot": self._dot, "dcn": self._dcn, "wukong": self._wukong}[part](options, n, n_in)
        if options.kind == "dhen":
            if options.merge == "concat":
                joined = len(options.parts) * n
                self._keep(block, rows * joined * d * SINGLE)
                self._product(block, rows * d, joined, n)
            self._product(block, rows * d, n_in, n)
            self._norm(block, rows * n, d)
        self._keep(block, rows * n * d * self.half)  # what the MLP reads
        self._mlp(block, rows * n, [d, d, d], dropout=True)

    def _dot(self, options: InteractionConfig, n: int, n_in: int) -> None:
        block, rows, d = "interaction_arch", self.rows, self.model.d
        kept = min(options.dot_tokens, n_in)
        if kept < n_in:
            self._keep(block, rows * kept * d * self.half)
            self._product(block, rows * d, n_in, kept)
        self._product(block, rows * kept, d, kept)
        pairs = kept * (kept - 1) // 2
        self._keep(block, rows * pairs * self.half)
        self._mlp(block, rows, [pairs, *options.hidden, n * d], dropout=True)

    def _dcn(self, options: InteractionConfig, n: int, n_in: int) -> None:
        block, rows, width = "interaction_arch", self.rows, n_in * self.model.d
        rank = min(options.dcn_rank, width)
        for _ in range(options.dcn_layers):
            self._keep(block, rows * (rank * self.half + width * self.half + width * SINGLE))
            self._product(block, rows, width, 2 * rank)
        self._product(block, rows * self.model.d, n_in, n)

    def _wukong(self, options: InteractionConfig, n: int, n_in: int) -> None:
        block, rows, d = "interaction_arch", self.rows, self.model.d
        fmb, rank = min(options.fmb_tokens, n), min(options.fmb_rank, n_in)
        self._keep(block, rows * d * rank * self.half)
        self._norm(block, rows, n_in * rank)
        self._keep(block, rows * n_in * rank * self.half)
        self._product(block, rows * d, n_in, rank)
        self._product(block, rows * n_in, d, rank)
        self._mlp(block, rows, [n_in * rank, *options.hidden, fmb * d], dropout=True)
        if n > fmb:
            self._product(block, rows * d, n_in, n - fmb)
        self._product(block, rows * d, n_in, n)
        self._norm(block, rows * n, d)
