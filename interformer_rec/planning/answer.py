"""The answer: options with ranks. In: a Problem; out: Placed, which fits at both moments of high memory, or DoesNotFit with what lacks."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torchrec.distributed.planner.types import ShardingOption, Topology

from interformer_rec.errors import InputError
from interformer_rec.planning.choose.exchange import NO_CHOICE, SMALLER, Choice, Exchange, Tried
from interformer_rec.planning.cost.memory import RankMemory, rank_memory
from interformer_rec.planning.cost.shard_time import CACHED
from interformer_rec.planning.cost.timing import StepTime, sharded_groups, step_time
from interformer_rec.planning.question import Problem
from interformer_rec.planning.search.errors import NoPlan
from interformer_rec.planning.search.search import search
from interformer_rec.planning.search.together import bundle, unbundle
from interformer_rec.planning.sharding_groups import (
    Search,
    fixed_ms,
    least_by_groups,
    least_fixed_ms,
    that_fit,
    with_fewer_groups,
)
from interformer_rec.planning.table_plan import TablePlan
from interformer_rec.text import GIB

SHARES = (0.9, 0.7, 0.5, 0.35, 0.2, 0.1, 0.05)  # of a table's rows in the cache on the device
SLACK = 0.002  # of a step, for ranks that are less full: a full rank has no room for what nobody counted


class DoesNotFit(InputError):
    """The tables do not fit, or a device is full before the first of them."""


@dataclass(frozen=True, eq=False)
class Placed:
    """A plan with its costs. `perf`: what tables take on the slowest rank, ms; `bound`: in no plan less, 0 if unknown."""

    problem: Problem
    options: list[ShardingOption]
    topology: Topology
    memory: RankMemory
    time: StepTime
    perf: float
    bound: float
    seconds: float  # the search took
    counts_exchange: bool  # shards' storage includes send buffers
    least_ms: float = 0.0  # of any plan: what shards and sharding types take
    choice: Choice = NO_CHOICE  # exchanges that it could have had

    @property
    def exchange(self) -> Exchange:
        """How its vectors travel."""
        return self.problem.allowed.exchanges[0]

    @property
    def host_cache(self) -> float | None:
        """Share of their rows that tables in host memory have in a cache; None where none is there."""
        return self.problem.job.cache_share if any(o.compute_kernel == CACHED for o in self.options) else None

    @property
    def step_bound(self) -> float:
        """Milliseconds of a step that no plan falls below; 0 if unknown."""
        if not self.bound:
            return 0.0
        fixed = fixed_ms(self.problem, sharded_groups(self.problem.tables, self.options))
        return self.time.total - self.perf - fixed + min(self.perf + fixed, self.least_ms)

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
    """The best plan found, with the best of the exchanges that it may have; the exchange of its problem is the chosen one.

    Raises DoesNotFit with numbers where the tables do not fit, InputError where a wish is impossible.
    """
    questions = [(problem.changed(exchange=exchange), 0.0) for exchange in problem.allowed.exchanges]
    if len(questions) > 1:
        questions = sorted(((question, least_step_ms(question)) for question, _ in questions), key=lambda pair: pair[1])
    best, why, tried = None, None, list[Tried]()
    for question, least in questions:
        if best is not None and least >= best.time.total:
            tried.append(Tried(question.allowed.exchanges[0], "at least", least))
            continue
        try:
            found = _with_cache(question)
        except DoesNotFit as error:
            why = why or error
            tried.append(Tried(question.allowed.exchanges[0], "planned", None))
            continue
        if best is None or found.time.total < best.time.total:
            best, found = found, best
        if found is not None:
            tried.append(Tried(found.exchange, "planned", found.time.total))
    if best is None:
        raise why or AssertionError("unreachable: some exchange is always allowed")
    exact = all(exchange.communication == "fp32" for exchange in problem.allowed.exchanges)
    return replace(best, choice=Choice((*tried, *(_smaller(best) if exact else [])), problem.allowed.why))


def least_step_ms(problem: Problem) -> float:
    """A step that no plan falls below, quickly: every table as its cheapest option, all of them spread perfectly. 0 where none fits."""
    try:
        space = problem.first_space
    except InputError:  # of memory or constraints: whoever plans says so
        return 0.0
    host = len(problem.tables) * problem.cluster.efficiency.table_us / 1000
    constant = step_time(problem, []).total - fixed_ms(problem, set())
    return constant + host + least_ms(problem, space)


def least_ms(problem: Problem, space: Sequence[ShardingOption], bound: float = 0.0) -> float:
    """Of shards and sharding types, in any plan; `bound`: of shards in any plan, where the search has proved one."""
    return max(least_by_groups(problem, space)[0][0], bound + least_fixed_ms(problem, space))


def _smaller(placed: Placed) -> list[Tried]:
    """What 16 bits would bring where nobody allowed them."""
    if placed.problem.ranks == 1:
        return []
    smaller = replace(placed.exchange, communication=SMALLER)
    return [Tried(smaller, "the same plan", step_time(placed.problem.changed(exchange=smaller), placed.options).total)]


def _place(problem: Problem) -> Placed:
    """With one exchange."""
    spent = 0.0
    for exchange in (False, True):
        try:
            topology = problem.topology(exchange)
        except InputError as error:
            raise DoesNotFit(str(error)) from None
        space, members = bundle(problem.space(True) if exchange else problem.first_space, problem.constraints.together)
        started = time.monotonic()
        try:
            first = _searcher(problem, topology)(space, True)
        except NoPlan as error:
            raise DoesNotFit(_no_plan(problem, str(error))) from error
        found = first
        if not problem.constraints.together:
            found = with_fewer_groups(problem, space, topology, first, _searcher(problem, topology))
        spent += time.monotonic() - started
        options = unbundle(found.options, members)
        memory = _memory(problem, options)
        if exchange or memory.peak.max() <= problem.usable:
            step, least = step_time(problem, options), least_ms(problem, that_fit(space, topology), first.bound)
            return Placed(problem, options, topology, memory, step, found.perf, first.bound, spent, exchange, least)
    raise AssertionError("unreachable: the second round returns or raises")


def _searcher(problem: Problem, topology: Topology) -> Search:
    slack = SLACK * step_time(problem, []).total
    return lambda space, refine: search(space, topology, groups=problem.groups, refine=refine, slack=slack)


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
    step = step_time(problem, options)
    return Placed(problem, options, topology, _memory(problem, options), step, perf, 0.0, 0.0, False)


def _with_cache(problem: Problem) -> Placed:
    """With one exchange, and the best share of rows in the caches of tables in host memory, where nobody named one."""
    if problem.cache_share is not None or problem.cache_wish is not None or problem.cluster.device == "cpu":
        return _place(problem)
    try:
        placed = _place(problem)
    except DoesNotFit:
        if not any(CACHED in problem.constraints.kernels(name, "cuda") for name in problem.tables):
            raise
        placed = _place(problem.changed(cache_share=SHARES[-1]))  # the least that a plan can need
    return best_cache(placed) if placed.host_cache is not None else placed


def best_cache(placed: Placed) -> Placed:
    """The same places with the share of cached rows, of SHARES, that fits and makes the step shortest."""
    tried = [same_plan(placed.problem.changed(cache_share=share), placed) for share in SHARES]
    fitting = [one for one in tried if one.memory.peak.max() <= placed.problem.usable]
    best = min(fitting, key=lambda one: one.time.total, default=placed)
    return replace(best, options=best.problem.weighed_again(best.options))


def same_plan(problem: Problem, placed: Placed) -> Placed:
    """The costs of a plan for a question that has the same tables and ranks; memory may exceed the device."""
    step, memory = step_time(problem, placed.options), _memory(problem, placed.options)
    return replace(placed, problem=problem, memory=memory, time=step, perf=float(step.by_rank.max()), bound=0.0)


def _no_plan(problem: Problem, why: str) -> str:
    need = sum(t.rows * t.dim * t.weight_bytes for t in problem.tables.values())
    free = problem.usable - problem.needed_without_tables
    return (
        f"no plan for {len(problem.tables)} tables ({need / GIB:,.1f} GiB of weights) on {problem.nodes} x {problem.cluster.name} "
        f"({problem.ranks} ranks with {max(0, free) / GIB:.1f} GiB for tables each): {why}"
    )
