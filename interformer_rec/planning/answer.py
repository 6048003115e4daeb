"""The answer: options with ranks. In: a Problem; out: Placed, which fits at both moments of high memory, or DoesNotFit with what lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torchrec.distributed.planner.types import ShardingOption, Topology

from interformer_rec.errors import InputError
from interformer_rec.planning.cost.cluster import GIB
from interformer_rec.planning.cost.memory import RankMemory, rank_memory
from interformer_rec.planning.cost.timing import StepTime, step_time
from interformer_rec.planning.question import Problem
from interformer_rec.planning.search.errors import NoPlan
from interformer_rec.planning.search.search import search
from interformer_rec.planning.search.together import bundle, unbundle
from interformer_rec.planning.table_plan import TablePlan


class DoesNotFit(InputError):
    """The tables do not fit, or a device is full before the first of them."""


@dataclass(frozen=True, eq=False)
class Placed:
    """A plan with its costs. `perf`: TorchRec's estimate of the slowest rank, ms; `bound`: no plan is faster by it, 0 if unknown."""

    problem: Problem
    options: list[ShardingOption]
    topology: Topology
    memory: RankMemory
    time: StepTime
    perf: float
    bound: float
    seconds: float  # the search took
    counts_exchange: bool  # shards' storage includes send buffers

    @property
    def samples_per_second(self) -> float:
        """Of the whole job."""
        return 1000 * self.problem.batch_size * self.problem.ranks / self.time.total


def rank_loads(options: Sequence[ShardingOption], ranks: int) -> np.ndarray:
    """(ranks,) summed shard times of placed options, ms."""
    loads = np.zeros(ranks)
    for option in options:
        for shard in option.shards:
            loads[shard.rank] += shard.perf.total  # type: ignore[union-attr]
    return loads


def place(problem: Problem) -> Placed:
    """The best plan found. Raises DoesNotFit with numbers where the tables do not fit, InputError where a wish is impossible."""
    spent = 0.0
    for exchange in (False, True):
        try:
            topology = problem.topology(exchange)
        except InputError as error:
            raise DoesNotFit(str(error)) from None
        space, members = bundle(problem.space(exchange), problem.wishes.together)
        try:
            found = search(space, topology, groups=problem.groups)
        except NoPlan as error:
            raise DoesNotFit(_no_plan(problem, str(error))) from error
        spent += found.seconds
        options = unbundle(found.options, members)
        memory = _memory(problem, options)
        if exchange or memory.peak.max() <= problem.usable:
            time = step_time(problem, options)
            return Placed(problem, options, topology, memory, time, found.perf, found.bound, spent, exchange)
    raise AssertionError("unreachable: the second round returns or raises")


def _memory(problem: Problem, options: Sequence[ShardingOption]) -> RankMemory:
    capacity = (problem.cluster.device_bytes, problem.cluster.host_bytes)
    return rank_memory(options, problem.tables, problem.job, problem.constant, capacity)


def placed_of_plan(problem: Problem, plan: Mapping[str, TablePlan]) -> Placed:
    """The costs of a plan that somebody else made, for example of a run: nothing is searched, `bound` and `seconds` are 0.

    Memory may exceed the device. Raises InputError where a table lacks or is cut unlike TorchRec cuts it.
    """
    options = list(problem.options_of(plan).values())
    perf = float(rank_loads(options, problem.ranks).max(initial=0.0))
    topology = problem.cluster.topology(problem.nodes)
    time = step_time(problem, options)
    return Placed(problem, options, topology, _memory(problem, options), time, perf, 0.0, 0.0, False)


def _no_plan(problem: Problem, why: str) -> str:
    need = sum(t.rows * t.dim * t.weight_bytes for t in problem.tables.values())
    free = problem.usable - problem.needed_without_tables
    return (
        f"no plan for {len(problem.tables)} tables ({need / GIB:,.1f} GiB of weights) on {problem.nodes} x {problem.cluster.name} "
        f"({problem.ranks} ranks with {max(0, free) / GIB:.1f} GiB for tables each): {why}"
    )
