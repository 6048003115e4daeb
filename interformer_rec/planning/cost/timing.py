"""Milliseconds of a step, item by item. In: a Problem and placed options; out: StepTime.

Table lookups and updates are TorchRec's estimates with this cluster's bandwidths; vectors and ids that travel are counted here by
link, because TorchRec charges all of them to the slower one. What stays on the rank costs nothing, the rest of a node takes the
intra-node link, other nodes the network; both links work at once, and a collective ends when its busiest rank does.

Overlap, as TrainPipelineSparseDist and DDP do it: the ids of the next batch travel while this one is computed; gradients of the
dense part are reduced while its backward pass runs; nothing else overlaps. So

    step = lookup + vectors there + dense forward + max(dense backward, all-reduce) + vectors back + update
           + what is left of the ids' way + what is measured beside all this (0 until somebody does)

The assumed efficiencies are the cluster's (cluster.Efficiency); a calibration (score/calibration.py) replaces them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torchrec.distributed.planner.types import ShardingOption

from interformer_rec.planning.cost.cluster import BYTES_PER_MS
from interformer_rec.planning.cost.memory import FLOAT, ID, TableLoad, owners
from interformer_rec.planning.question import Problem

INT = 4


@dataclass(frozen=True)
class Link:
    """Milliseconds of one collective on both links, and the rank that takes longest."""

    intra_node: float
    inter_node: float
    rank: int

    @property
    def total(self) -> float:
        """Both work at once."""
        return max(self.intra_node, self.inter_node)

    @property
    def slower(self) -> str:
        """Which link it waits for."""
        return "inter_node" if self.inter_node > self.intra_node else "intra_node"


@dataclass(frozen=True)
class StepTime:
    """One training step, ms. Arrays are (ranks,)."""

    lookup: np.ndarray
    update: np.ndarray
    forward: Link  # vectors to the ranks that need them
    backward: Link  # their gradients
    ids: Link
    dense_forward: float
    dense_backward: float
    all_reduce: Link  # gradients of the dense part and of data-parallel tables
    fixed: float = 0.0  # what a calibration found beside all this

    @property
    def ids_left(self) -> float:
        """What the ids' way takes beyond the compute it hides behind."""
        return max(
            0.0, self.ids.total - (self.lookup.max() + self.dense_forward + self.dense_backward + self.update.max())
        )

    @property
    def reduce_left(self) -> float:
        """What the all-reduce takes beyond the dense backward pass."""
        return max(0.0, self.all_reduce.total - self.dense_backward)

    @property
    def items(self) -> dict[str, float]:
        """What a step is the sum of, ms."""
        return {
            "lookup": float(self.lookup.max()),
            "all-to-all forward": self.forward.total,
            "dense forward": self.dense_forward,
            "dense backward": self.dense_backward,
            "all-reduce, not hidden": self.reduce_left,
            "all-to-all backward": self.backward.total,
            "update": float(self.update.max()),
            "ids' all-to-all, not hidden": self.ids_left,
            **({"optimizer, trainer, waiting": self.fixed} if self.fixed else {}),
        }

    @property
    def total(self) -> float:
        """A step, ms."""
        return sum(self.items.values())

    @property
    def bottleneck_rank(self) -> int:
        """The rank whose tables take longest."""
        return int((self.lookup + self.update).argmax())

    @property
    def bottleneck(self) -> str:
        """The largest item, with its link where it is one."""
        name = max(self.items, key=lambda item: self.items[item])
        link = {
            "all-to-all forward": self.forward,
            "all-to-all backward": self.backward,
            "all-reduce, not hidden": self.all_reduce,
        }
        if name in link:
            return f"{name} ({link[name].slower.replace('_', '-')} link, rank {link[name].rank})"
        return f"{name} (rank {self.bottleneck_rank})" if name in ("lookup", "update") else name


@dataclass
class _Traffic:
    """Bytes that leave every rank: to the other ranks of its node, and to other nodes; spread evenly over receivers."""

    to_node: np.ndarray
    to_others: np.ndarray


def step_time(problem: Problem, options: Sequence[ShardingOption]) -> StepTime:
    """Estimate a step of a placed plan."""
    ranks, local = problem.ranks, problem.cluster.devices_per_node
    lookup, update = np.zeros(ranks), np.zeros(ranks)
    vectors = _Traffic(np.zeros(ranks), np.zeros(ranks))
    ids = _Traffic(np.zeros(ranks), np.zeros(ranks))
    reduced = float(problem.dense_parameters * FLOAT)
    for option in options:
        table = problem.tables[option.name]
        for shard in option.shards:
            rank, perf = shard.rank, shard.perf
            lookup[rank] += perf.fwd_compute + perf.prefetch_compute  # type: ignore[union-attr]
            update[rank] += perf.bwd_compute  # type: ignore[union-attr]
            if option.sharding_type != "data_parallel":
                near, far = shares(option.sharding_type, ranks, local)
                sent = _vector_bytes(problem, table, option.sharding_type, shard.size)
                vectors.to_node[rank] += sent * near
                vectors.to_others[rank] += sent * far
                received = _id_bytes(problem, table, option.sharding_type) if shard.size[0] * shard.size[1] else 0.0
                ids.to_node[rank] += received * (local - 1) / ranks
                ids.to_others[rank] += received * (ranks - local) / ranks
        if option.sharding_type == "data_parallel":
            reduced += table.rows * table.dim * table.weight_bytes
    travel = _link(problem, vectors)
    return StepTime(
        lookup, update, travel, travel, _link(problem, ids), *dense_time(problem), _all_reduce(problem, reduced),
        problem.cluster.efficiency.fixed_ms,
    )  # fmt: skip


def dense_time(problem: Problem) -> tuple[float, float]:
    """Forward and backward pass of the dense part, ms: products at the matmul rate and kept tensors through memory (written and
    read once in the forward pass, half as much again in backward), and the start of all its operators. A GPU computes while the
    next operators are started, so the longer of the two counts; a CPU does one after the other."""
    products, memory, first = dense_parts(problem)
    forward, backward = products + memory, 2 * products + 1.5 * memory
    second = launch_ms(problem, problem.dense.backward_kernels)
    if problem.cluster.device == "cpu":
        return forward + first, problem.cluster.efficiency.backward * (backward + second)
    return max(forward, first), problem.cluster.efficiency.backward * max(backward, second)


def dense_parts(problem: Problem) -> tuple[float, float, float]:
    """Milliseconds of matrix products, of kept tensors and of starting operators, in a forward pass."""
    cluster, dense, efficiency = problem.cluster, problem.dense, problem.cluster.efficiency
    rate = cluster.bf16_tflops if problem.config.training.precision == "bf16" else cluster.fp32_tflops
    products = sum(dense.forward_flops.values()) / (rate * efficiency.matmul * 1e9)
    bandwidth = cluster.hbm_gb_per_s or cluster.ddr_gb_per_s / cluster.devices_per_node
    memory = 2 * dense.activation_bytes / (bandwidth * (efficiency.tensors or efficiency.memory) * BYTES_PER_MS)
    return products, memory, launch_ms(problem, dense.forward_kernels)


def launch_ms(problem: Problem, kernels: int) -> float:
    """To start so many operators."""
    return kernels * problem.cluster.efficiency.launch_us / 1000


def shares(sharding: str, ranks: int, local: int) -> tuple[float, float]:
    """Of the vectors that a shard's owner makes: the share for the other ranks of its node, and for other nodes.

    table_row_wise and grid first add up inside the node, so only one rank's worth goes on to other nodes.
    """
    if sharding in ("table_row_wise", "grid_shard"):
        return (local - 1) / local, (ranks - local) / ranks / local
    return (local - 1) / ranks, (ranks - local) / ranks


def _vector_bytes(problem: Problem, table: TableLoad, sharding: str, size: Sequence[int]) -> float:
    """Looked-up vectors that a shard's owner makes for a global batch."""
    rows = problem.batch_size * problem.ranks
    if not size[0]:
        return 0.0
    count = rows * len(table.lengths) if table.pooled else rows * table.ids_per_row / owners(sharding, problem.job)
    return count * size[1] * FLOAT


def _id_bytes(problem: Problem, table: TableLoad, sharding: str) -> float:
    rows = problem.batch_size * problem.ranks
    return rows * (table.ids_per_row / owners(sharding, problem.job) * ID + len(table.lengths) * INT)


def _link(problem: Problem, traffic: _Traffic) -> Link:
    """Time of an all-to-all: every rank sends what it owns and receives its share of what the others own."""
    ranks, local = problem.ranks, problem.cluster.devices_per_node
    links = problem.cluster.efficiency.links * BYTES_PER_MS
    sent = traffic.to_node.reshape(-1, local)
    near_in = ((sent.sum(1, keepdims=True) - sent) / max(1, local - 1)).ravel()
    node_out = traffic.to_others.reshape(-1, local).sum(1)
    far_in = np.repeat((node_out.sum() - node_out) / max(1, ranks - local), local)
    near = np.maximum(traffic.to_node, near_in) / (problem.cluster.intra_node_gb_per_s * links)
    far = np.maximum(traffic.to_others, far_in) / (problem.cluster.inter_node_gb_per_s * links)
    return Link(float(near.max()), float(far.max()), int(np.maximum(near, far).argmax()))


def _all_reduce(problem: Problem, count: float) -> Link:
    """Ring inside the node, then across: each rank's network port carries its share of the node's part."""
    ranks, local, efficiency = problem.ranks, problem.cluster.devices_per_node, problem.cluster.efficiency
    links = (efficiency.reduce or efficiency.links) * BYTES_PER_MS
    near = 2 * count * (local - 1) / local / (problem.cluster.intra_node_gb_per_s * links)
    nodes = ranks // local
    far = 2 * count * (nodes - 1) / nodes / local / (problem.cluster.inter_node_gb_per_s * links)
    return Link(near, far, 0)
