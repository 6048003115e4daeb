"""What a model's dense part costs a rank and step. In: a run config and sizes; out: bytes and FLOPs by block, for any batch.

The real model runs on the CPU, on a few made-up rows with the lengths of a typical batch: counter.py counts its operators and what
autograd keeps. Tables are not made: the vectors that a lookup would give are drawn. Two row counts give a line, and larger batches
lie on it: a constant (bf16 copies of weights, tables of positions) and a cost a row. So every model kind and every flow can be
planned. Padding is that of the CPU's form of the operators, length buckets; the kernels for GPUs keep less.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from torchrec import JaggedTensor, KeyedJaggedTensor, KeyedTensor

from interformer_rec.config.run import RunConfig
from interformer_rec.model.build import build_model
from interformer_rec.model.embedding.embedded import table_dims
from interformer_rec.model.embedding.lookup import Assemble
from interformer_rec.model.task import WeightedBCE
from interformer_rec.planning.cost.counter import Blocks, Kept, NormAsOneKernel, Operators
from interformer_rec.planning.cost.sizes import Sizes

SINGLE = 4  # bytes of a float32
FIRST_ROWS = 2  # of a run that says how many rows the others can have
MOST_ROWS = 512
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
    _backward_share: float = 0.0  # operators of the backward pass by those of the forward pass

    def of(self, rows: int) -> DenseCost:
        """Of a batch of `rows` rows."""
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(0)
            most = self._most_rows()
            if rows <= most:
                return self._at(rows)
            return _line(self._at(most // 2), self._at(most), most // 2, most, rows, self._looked_up(rows))

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
        """A forward pass, and the first time a backward pass."""
        config, features, model, blocks = self.config, self.config.features, self._model, self._blocks
        options = config.model
        assemble = Assemble(features, options.embedding_dim, config.optimizer.embedding.l2, options.ensemble_members)
        loss = WeightedBCE([label.weight for label in features.labels], config.training.pairwise_loss_weight)
        ids, pooled, jagged = self._looked_up_vectors(rows)
        dense = torch.randn(rows, len(features.dense))
        labels = (torch.arange(rows) % 2).float()[:, None].expand(rows, len(features.labels)).contiguous()
        weights_B, groups_B = torch.ones(rows), torch.arange(rows) // ROWS_OF_A_GROUP
        batch = [*model.parameters(), dense, labels, weights_B, groups_B, ids.values(), ids.lengths()]
        cast = torch.autocast("cpu", torch.bfloat16, enabled=config.training.precision == "bf16")
        kept = Kept(lambda: blocks.current, batch)
        with NormAsOneKernel(), Operators(lambda: blocks.current, multiply=False) as counter:
            with kept, cast:
                embedded = assemble(ids, pooled, jagged or None, float(rows))
                total, _ = loss(model(dense, embedded), labels, weights_B, float(rows), groups_B)
            forward, flops = counter.count, dict(counter.flops)
            if not self._backward_share:
                total.backward()
                model.zero_grad(set_to_none=True)
                self._backward_share = (counter.count - forward) / forward
        backward = round(forward * self._backward_share)
        return DenseCost(dict(kept.bytes), flops, self._looked_up(rows), forward, backward)

    @cached_property
    def _model(self) -> nn.Module:
        return build_model(self.config.features, self.config.model).train()

    @cached_property
    def _blocks(self) -> Blocks:
        return Blocks(self._model, outside="other")

    def _looked_up_vectors(self, rows: int) -> tuple[KeyedJaggedTensor, KeyedTensor | None, dict[str, JaggedTensor]]:
        """Of a batch: ids of the jagged lookups, all different, and the vectors of pooled and jagged lookups."""
        features, dims = self.config.features, self._dims
        keys = [lookup.key for lookup in features.jagged_lookups]
        lengths = {key: _lengths(self.sizes, key, rows) for key in keys}
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

    def _looked_up(self, rows: int) -> int:
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

    return DenseCost(
        at(less.activations, more.activations),
        at(less.forward_flops, more.forward_flops),
        looked_up,
        more.forward_kernels,
        more.backward_kernels,
    )
