"""What a model's dense part costs a rank and step. In: a run config and sizes; out: bytes and FLOPs by block, for any batch.

The real model runs on the CPU, on a few made-up rows with the lengths of a typical batch: counter.py counts its operators and what
autograd keeps. Tables are not made: the vectors that a lookup would give are drawn. Two row counts give a line, and larger batches
lie on it: a constant (bf16 copies of weights, tables of positions) and a cost a row. So every model kind and every flow can be
planned. Where rows are candidates of requests, a batch has as many requests as its histories say. Padding is that of the CPU's form
of the operators, length buckets; the kernels for GPUs keep less.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchrec import JaggedTensor, KeyedJaggedTensor, KeyedTensor

from interformer_rec.config.run import RunConfig
from interformer_rec.model.build import build_model
from interformer_rec.model.embedding.embedded import Embedded, table_dims
from interformer_rec.model.embedding.lookup import Assemble
from interformer_rec.model.embedding.requests import Expand
from interformer_rec.model.task import WeightedBCE, expand_of, of_requests
from interformer_rec.planning.cost.counter import (
    SEQUENCES,
    Blocks,
    Kept,
    Live,
    NormAsOneKernel,
    Operators,
    Product,
    alive_again,
    block_name,
    sequence_parts,
)
from interformer_rec.planning.cost.sizes import Sizes

OUTSIDE = "other"  # than any block
SINGLE = 4  # bytes of a float32
FIRST_ROWS = 2  # of a run that says how many rows the others can have
MOST_ROWS = 512
EVALUATION_ROWS = 128  # of the run without gradients: what it holds grows with the rows alone
BYTES = 768 << 20  # kept in the larger of the two runs
ROWS_OF_A_GROUP = 8  # rows that the pairwise loss compares with each other


@dataclass(frozen=True)
class DenseCost:
    """Of one rank and step."""

    activations: dict[str, int]  # block -> bytes kept for the backward pass
    forward_flops: dict[str, int]  # block -> FLOPs of its matrix products
    looked_up: int  # bytes of the vectors that come back from the tables, before they are put side by side
    forward_kernels: int  # operators started in the forward pass, views not counted
    backward_kernels: int
    products: tuple[Product, ...] = ()  # of the forward pass
    moved: float = 0.0  # bytes that its other operators read and write
    repeated: float = 0.0  # share of the forward pass that the backward pass does once more

    @property
    def activation_bytes(self) -> int:
        """All blocks."""
        return sum(self.activations.values())

    @property
    def flops(self) -> int:
        """Forward and backward, which multiplies twice as much."""
        return 3 * sum(self.forward_flops.values())


@dataclass
class DenseCosts:
    """The cost of a config's dense part for any batch size; the model is made and run when the first is asked for."""

    config: RunConfig
    sizes: Sizes
    _known: dict[int, DenseCost] = field(default_factory=dict)
    _most: int = 0
    _evaluation_row: float = 0.0  # bytes
    _backward_share: float = 0.0  # operators of the backward pass by those of the forward pass

    def of(self, rows: int) -> DenseCost:
        """Of a batch of `rows` rows."""
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(0)
            most = self._most_rows()
            if rows <= most:
                return self._at(rows)
            return _line(self._at(most // 2), self._at(most), most // 2, most, rows, self.looked_up(rows))

    def evaluation(self, rows: int) -> int:
        """Bytes of vectors and other tensors that a forward pass without gradients holds at most, for a batch of `rows` rows."""
        if not self._evaluation_row:
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                torch.manual_seed(0)
                some = min(rows, EVALUATION_ROWS)
                self._evaluation_row = (self._forward(some) + self.looked_up(some)) / some
        return round(self._evaluation_row * rows)

    def _forward(self, rows: int) -> int:
        """Bytes that a forward pass holds at most beside its input."""
        config, model = self.config, self._model
        options = config.model
        assemble = Assemble(
            config.features, options.embedding_dim, config.optimizer.embedding.l2, options.ensemble_members
        )
        ids, pooled, jagged = self._looked_up_vectors(rows)
        dense, request_of = torch.randn(rows, len(config.features.dense)), self._request_of(rows)
        cast = torch.autocast("cpu", torch.bfloat16, enabled=config.training.precision == "bf16")
        model.eval()
        try:
            with NormAsOneKernel(), Operators(multiply=False), Live() as live, cast:
                self._logits(dense, assemble.eval()(ids, pooled, jagged or None, float(rows), request_of), request_of)
        finally:
            model.train()
        return live.most

    def _most_rows(self) -> int:
        """Rows of the larger run."""
        if not self._most:
            one = self._at(FIRST_ROWS)
            fit = int(FIRST_ROWS * BYTES / max(1, one.activation_bytes))
            self._most = 2 * max(2, min(MOST_ROWS, fit) // 2)
        return self._most

    def _at(self, rows: int) -> DenseCost:
        if rows not in self._known:
            self._known[rows] = self._run(rows)
        return self._known[rows]

    def _run(self, rows: int) -> DenseCost:
        """What a batch costs; of a model that computes a part again, what is alive then too."""
        cost, kept = self._counted(rows)
        again = [module for module in self._model.modules() if getattr(module, "recompute", False)]
        if not again:
            return cost
        try:
            self._recompute(again, False)
            whole = self._counted(rows)[1]
        finally:
            self._recompute(again, True)
        share = max(
            cost.forward_flops.get(SEQUENCES, 0) / max(1, sum(cost.forward_flops.values())),
            sum(sequence_parts(whole).values()) / max(1, sum(whole.values())),
        )
        alive = {**cost.activations, f"{SEQUENCES}, computed again": alive_again(kept, whole)}
        return replace(cost, activations=alive, repeated=share)

    @staticmethod
    def _recompute(modules: Sequence[Any], how: bool) -> None:
        for module in modules:
            module.recompute = how

    def _counted(self, rows: int) -> tuple[DenseCost, dict[str, int]]:
        """A forward pass, and the first time a backward pass; and what is kept by the path of a module."""
        config, features, model, blocks = self.config, self.config.features, self._model, self._blocks
        options = config.model
        assemble = Assemble(features, options.embedding_dim, config.optimizer.embedding.l2, options.ensemble_members)
        loss = WeightedBCE([label.weight for label in features.labels], config.training.pairwise_loss_weight)
        ids, pooled, jagged = self._looked_up_vectors(rows)
        dense, request_of = torch.randn(rows, len(features.dense)), self._request_of(rows)
        labels = (torch.arange(rows) % 2).float()[:, None].expand(rows, len(features.labels)).contiguous()
        weights_B, groups_B = torch.ones(rows), torch.arange(rows) // ROWS_OF_A_GROUP
        batch = [*model.parameters(), dense, labels, weights_B, groups_B, ids.values(), ids.lengths()]
        batch += [] if request_of is None else [request_of]
        cast = torch.autocast("cpu", torch.bfloat16, enabled=config.training.precision == "bf16")
        kept = Kept(lambda: blocks.path, batch)
        with NormAsOneKernel(), Operators(lambda: blocks.current, multiply=False) as counter:
            with kept, cast:
                embedded = assemble(ids, pooled, jagged or None, float(rows), request_of)
                logits = self._logits(dense, embedded, request_of)
                total, _ = loss(logits, labels, weights_B, float(rows), groups_B)
            forward, flops = counter.count, dict(counter.flops)
            products, moved = tuple(counter.products), counter.moved
            if not self._backward_share:
                total.backward()
                model.zero_grad(set_to_none=True)
                self._backward_share = (counter.count - forward) / forward
        backward = round(forward * self._backward_share)
        activations: dict[str, int] = defaultdict(int)
        for path, count in kept.bytes.items():
            activations[path if path == OUTSIDE else block_name(path)] += count
        looked_up = self.looked_up(rows)
        return DenseCost(dict(activations), flops, looked_up, forward, backward, products, moved), dict(kept.bytes)

    def _request_of(self, rows: int) -> Tensor | None:
        """(rows,) the request of each candidate; None where rows are impressions."""
        if self.config.features.request is None:
            return None
        return torch.arange(rows) * self._requests(rows) // rows

    def _requests(self, rows: int) -> int:
        """In a batch of so many candidates, which has a history at the first candidate of each request alone."""
        groups = self.config.features.sequences
        empty = min((self.sizes.of_lookup(group.name).empty for group in groups), default=0.0)
        return max(1, round(rows * (1 - empty)))

    def _logits(self, dense: Tensor, embedded: Embedded, request_of: Tensor | None) -> Tensor:
        """As the task calls the model."""
        if request_of is None:
            return self._model(dense, embedded)
        return of_requests(self._model, self._expand, dense, embedded, request_of, self._requests(len(dense)))

    @cached_property
    def _expand(self) -> Expand | None:
        return expand_of(self.config.features, self.config.model)

    @cached_property
    def _model(self) -> nn.Module:
        return build_model(self.config.features, self.config.model).train()

    @cached_property
    def _blocks(self) -> Blocks:
        return Blocks(self._model, outside=OUTSIDE)

    def _looked_up_vectors(self, rows: int) -> tuple[KeyedJaggedTensor, KeyedTensor | None, dict[str, JaggedTensor]]:
        """Of a batch: ids of the jagged lookups, all different, and the vectors of pooled and jagged lookups."""
        features, dims = self.config.features, self._dims
        keys = [lookup.key for lookup in features.jagged_lookups]
        lengths = {key: _lengths(self.sizes, key, rows) for key in keys}
        if features.request is not None:  # a request's own lists fill the first rows
            lengths = {key: found if key in features.candidate else found.flip(0) for key, found in lengths.items()}
        counts = [int(lengths[key].sum()) for key in keys]
        ids = KeyedJaggedTensor(
            keys,
            torch.arange(sum(counts)),
            lengths=torch.cat([*lengths.values(), torch.empty(0, dtype=torch.int32)]),
            stride=rows,
            length_per_key=counts,
        )
        jagged = {}
        for lookup, count in zip(features.jagged_lookups, counts, strict=True):
            vectors = torch.randn(count, dims[lookup.table]).requires_grad_()
            jagged[lookup.key] = JaggedTensor(vectors, lengths=lengths[lookup.key])
        pooled = [lookup.key for lookup in features.pooled_lookups]
        widths = [dims[lookup.table] for lookup in features.pooled_lookups]
        if not pooled:
            return ids, None, jagged
        return ids, KeyedTensor(pooled, widths, torch.randn(rows, sum(widths)).requires_grad_()), jagged

    def looked_up(self, rows: int) -> int:
        """Bytes of their vectors."""
        features, dims = self.config.features, self._dims
        numbers = rows * sum(dims[lookup.table] for lookup in features.pooled_lookups)
        for lookup in features.jagged_lookups:
            numbers += round(self.sizes.of_lookup(lookup.key).mean * rows) * dims[lookup.table]
        return numbers * SINGLE

    @property
    def _dims(self) -> dict[str, int]:
        model = self.config.model
        return table_dims(self.config.features, model.embedding_dim, model.ensemble_members)


def _lengths(sizes: Sizes, key: str, rows: int) -> Tensor:
    """(rows,) whole lengths of a typical batch, whose sum is the batch's: rounded one by one, lists of 0.4 ids would be empty."""
    ends = sizes.of_lookup(key).widths(rows).cumsum().round()
    return torch.from_numpy(np.diff(ends, prepend=0.0)).to(torch.int32)


def _line(less: DenseCost, more: DenseCost, few: int, many: int, rows: int, looked_up: int) -> DenseCost:
    """The costs of `rows` rows on the line through two measured ones. Operators do not grow with the rows."""

    def at(first: dict[str, int], second: dict[str, int]) -> dict[str, int]:
        slopes = {block: (value - first.get(block, 0)) / (many - few) for block, value in second.items()}
        return {block: max(0, round(second[block] + slope * (rows - many))) for block, slope in slopes.items()}

    def further(first: float, second: float) -> float:
        return max(second, second + (second - first) / (many - few) * (rows - many))

    flops = at(less.forward_flops, more.forward_flops)
    return DenseCost(
        at(less.activations, more.activations),
        flops,
        looked_up,
        more.forward_kernels,
        more.backward_kernels,
        _products(less.products, more.products, further, sum(flops.values())),
        further(less.moved, more.moved),
        more.repeated,
    )


def _products(
    less: Sequence[Product], more: Sequence[Product], further: Callable[[float, float], float], flops: int
) -> tuple[Product, ...]:
    """Each on its own line; where padding makes other products of more rows, all of them larger in proportion."""
    if [p.head_dim for p in less] == [p.head_dim for p in more]:
        pairs = zip(less, more, strict=True)
        return tuple(Product(further(a.flops, b.flops), further(a.bytes, b.bytes), b.head_dim) for a, b in pairs)
    factor = flops / max(1.0, sum(p.flops for p in more))
    return tuple(Product(p.flops * factor, p.bytes * factor, p.head_dim) for p in more)
