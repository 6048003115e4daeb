"""A case with two objectives. In: a Case; out: Question, its options with TorchRec's milliseconds and with ours, and the score of a plan.

`perf` is TorchRec's objective: the slowest rank's sum of its estimator's milliseconds (NoopPerfModel). `step` is the number that
`interformer plan` prints, without a dense part: the slowest rank's sum of shard times, copies, the start of collectives, Python's share.
Options, memory estimates and the memory that is reserved are TorchRec's in both.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np
from torch import nn
from torchrec.distributed.embedding import EmbeddingCollectionSharder
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import Shard, ShardingOption, Topology
from torchrec.distributed.types import ModuleSharder

from benchmarks.planner.cases import Case, build, tables_of
from interformer_rec.config.run import RunConfig
from interformer_rec.distributed.lookup.communication import Exchange
from interformer_rec.planning.answer import rank_loads
from interformer_rec.planning.constraints import Constraints
from interformer_rec.planning.cost.cluster import load_cluster
from interformer_rec.planning.cost.dense import DenseCost
from interformer_rec.planning.cost.lengths import Lengths
from interformer_rec.planning.cost.load import TableLoad
from interformer_rec.planning.cost.shard_time import shard_time
from interformer_rec.planning.cost.sizes import find_sizes
from interformer_rec.planning.cost.timing import sharded_groups, step_time
from interformer_rec.planning.question import Problem
from interformer_rec.planning.search.options import ShardRuns, enumerate_grouped
from interformer_rec.planning.sharding_groups import fixed_ms

OBJECTIVES = ("perf", "step")
RESERVED = 0.15
NO_DENSE = DenseCost({}, {}, 0, 0, 0)
# What a Problem asks of a run: the precision of its dense part, which has no operator here.
RUN = {
    "name": "case",
    "data": {"batch_size": 1},
    "features": {"tables": {"t0": {"ids": "hash", "num_embeddings": 1}}, "labels": ["label"], "ids": ["t0"]},
    "model": {"kind": "dlrm", "embedding_dim": 16},
}


@dataclass(frozen=True, eq=False, kw_only=True)
class TablesOnly(Problem):
    """A planner's question whose tables are given, and which has no dense part."""

    loads: dict[str, TableLoad] = field(default_factory=dict)

    @cached_property
    def tables(self) -> dict[str, TableLoad]:
        """As given."""
        return self.loads

    @cached_property
    def dense_parameters(self) -> int:
        """None."""
        return 0


@dataclass(frozen=True, eq=False)
class Question:
    """What both planners get: the same options in the same order, with the milliseconds of each objective."""

    model: nn.Module
    sharders: list[ModuleSharder[nn.Module]]
    topology: Topology
    room: Topology  # less what is reserved
    problem: TablesOnly
    space: dict[str, list[ShardingOption]]  # objective -> options

    @cached_property
    def _options(self) -> dict[tuple[str, str, str], ShardingOption]:
        return {(o.name, o.sharding_type, o.compute_kernel): o for o in self.space["perf"]}

    def score(self, options: Sequence[ShardingOption]) -> dict[str, float]:
        """Both objectives, ms, of a placed plan, whichever it was made for."""
        loads = np.zeros(self.topology.world_size)
        for option in options:
            known = self._options[(option.name, option.sharding_type, option.compute_kernel)]
            ranks, perfs = [s.rank for s in option.shards], [s.perf.total for s in known.shards]  # type: ignore[union-attr]
            np.add.at(loads, np.array(ranks), np.array(perfs))
        return {"perf": float(loads.max()), "step": step_time(self.problem, options).total}

    def searched_ms(self, options: Sequence[ShardingOption]) -> float:
        """Of a plan made for the step, by its shards' times: what of the step depends on the plan."""
        groups = sharded_groups(self.problem.tables, options)
        return float(rank_loads(options, self.topology.world_size).max()) + fixed_ms(self.problem, groups)


def question(case: Case) -> Question:
    """Of a case. TorchRec says which options there are, and what memory they take."""
    model, topology, constraints = build(case)
    sharders = cast("list[ModuleSharder[nn.Module]]", [EmbeddingBagCollectionSharder(), EmbeddingCollectionSharder()])
    room = FixedPercentageStorageReservation(RESERVED).reserve(topology, case.batch, model, sharders, constraints)
    theirs = enumerate_grouped(model, sharders, topology, case.batch, constraints)
    problem = _problem(case)
    known: dict[object, Any] = {}
    return Question(
        model,
        sharders,
        topology,
        room,
        problem,
        {"perf": theirs, "step": [_timed(problem, option, known) for option in theirs]},
    )


def _problem(case: Case) -> TablesOnly:
    loads = {
        name: TableLoad(name, t.rows, t.dim, t.pooled, tuple(Lengths.constant(n) for n in t.lengths), "rowwise_adagrad")
        for name, t in tables_of(case).items()
    }
    config = RunConfig.model_validate(RUN)
    cluster = load_cluster("dgx-h100" if case.device == "cuda" else "cpu")
    host = min(case.host, case.ranks)
    return TablesOnly(
        config=config,
        cluster=cluster.model_copy(update={"devices_per_node": host}),
        nodes=case.ranks // host,
        batch_size=case.batch,
        sizes=find_sizes(config),
        constraints=Constraints(),
        dense_ms=(0.0, 0.0),
        counted=NO_DENSE,
        exchange=Exchange(deduplicate=True, communication="fp32"),
        loads=loads,
    )


def _timed(problem: TablesOnly, option: ShardingOption, known: dict[object, Any]) -> ShardingOption:
    """The option with our milliseconds in the place of TorchRec's; tables that are alike share their shards."""
    again = copy.copy(option)
    kind, kernel = option.sharding_type, option.compute_kernel
    key = (id(option.shards), problem.alike[option.name], kernel)
    if key not in known:
        given = cast(ShardRuns, option.shards)
        table, runs = problem.tables[option.name], []
        for count, shard in given.runs:
            perf = shard_time(table, kind, kernel, shard.size, problem.job, problem.cluster).perf(problem.job.device)
            runs.append((count, Shard(shard.size, shard.offset, shard.storage, perf)))
        known[key] = ShardRuns(runs, given._offsets)
    again.shards = known[key]
    return again
