"""Fewer sharding types where each costs more than it brings. In: a search space and the first plan of it; out: the best plan found.

TorchRec runs the tables of one collection and sharding type together, and one such group after the other: each has lookups,
collectives and Python of its own. That is a cost of the group, not of a shard, so the search cannot see it: here sets of groups are
searched one by one, the most promising first, as long as one can make the step shorter.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from torchrec.distributed.planner.types import Shard, ShardingOption, Storage, Topology

from interformer_rec.planning.cost.timing import host_ms, sharded_groups, starts_ms
from interformer_rec.planning.question import Problem
from interformer_rec.planning.search.errors import NoPlan
from interformer_rec.planning.search.search import Solution

Group = tuple[bool, str]
Search = Callable[[list[ShardingOption], bool], Solution]  # the flag: to the end, or the first good plan
MANY = 40_000  # tables times ranks from which one more search is all that a plan may cost
TRIES = 8
LITTLE = 1e-4  # of what groups and shards take: a promise of less is not searched for


def fixed_ms(problem: Problem, groups: set[Group]) -> float:
    """What groups cost beside their shards."""
    return host_ms(problem.cluster, len(groups), 0) + starts_ms(problem.cluster, problem.ranks, groups)


def least_fixed_ms(problem: Problem, space: Sequence[ShardingOption]) -> float:
    """The same for any plan: every collection needs one group at least."""
    possible = sharded_groups(problem.tables, space)
    best = 0.0
    for pooled in {pooled for pooled, _ in possible}:
        alone = [fixed_ms(problem, {group}) for group in possible if group[0] == pooled]
        best += min(alone) - fixed_ms(problem, set())
    return best + fixed_ms(problem, set())


def least_by_groups(problem: Problem, space: Sequence[ShardingOption]) -> list[tuple[float, frozenset[Group]]]:
    """(ms of groups and shards that no plan with these groups falls below, the groups), ascending.

    Of every set of groups in which each table has an option. Tables take their cheapest option of these groups, spread perfectly, but
    for the shard that takes longest. The first entry bounds every plan.
    """
    collections = [_subsets(problem, space, pooled) for pooled in (True, False)]
    found = []
    for parts in itertools.product(*(subsets for subsets in collections if subsets)):
        groups = frozenset[Group]().union(*(part.groups for part in parts))
        shards = max(
            sum(part.work for part in parts) / problem.ranks, max((part.longest for part in parts), default=0.0)
        )
        found.append((shards + fixed_ms(problem, set(groups)), groups))
    whole = "table_wise"  # what one shard is called, where options come to the same
    return sorted(found, key=lambda e: (e[0], sum(kind != whole for _, kind in e[1]), sorted(e[1])))


class _Subset(NamedTuple):
    """Groups of one collection: milliseconds of all shards, and of the longest one."""

    groups: frozenset[Group]
    work: float
    longest: float


def _subsets(problem: Problem, space: Sequence[ShardingOption], pooled: bool) -> list[_Subset]:
    names = {name: row for row, name in enumerate(n for n, t in problem.tables.items() if t.pooled == pooled)}
    options = [option for option in space if option.name in names]
    kinds = sorted({option.sharding_type for option in options})
    work, longest = (np.full((len(names), len(kinds)), np.inf) for _ in range(2))
    known: dict[int, tuple[float, float]] = {}  # tables that are alike share their shards
    for option in options:
        if id(option.shards) not in known:
            known[id(option.shards)] = work_ms(option), _longest_ms(option)
        row, column = names[option.name], kinds.index(option.sharding_type)
        work[row, column] = min(work[row, column], known[id(option.shards)][0])
        longest[row, column] = min(longest[row, column], known[id(option.shards)][1])
    found = []
    for count in range(1, len(kinds) + 1):
        for columns in itertools.combinations(range(len(kinds)), count):
            total = work[:, columns].min(axis=1).sum()
            if np.isfinite(total):
                groups = frozenset((pooled, kinds[column]) for column in columns)
                found.append(_Subset(groups, float(total), float(longest[:, columns].min(axis=1).max())))
    return found


def that_fit(space: Sequence[ShardingOption], topology: Topology) -> list[ShardingOption]:
    """Options whose shards each fit on some device."""
    room = [device.storage for device in topology.devices]
    largest = Storage(hbm=max(s.hbm for s in room), ddr=max(s.ddr for s in room), ssd=max(s.ssd for s in room))
    known: dict[int, bool] = {}
    for option in space:
        if id(option.shards) not in known:
            known[id(option.shards)] = all(shard.storage.fits_in(largest) for shard in _different(option))
    return [option for option in space if known[id(option.shards)]]


def with_fewer_groups(
    problem: Problem, space: Sequence[ShardingOption], topology: Topology, first: Solution, search: Search
) -> Solution:
    """The plan of the shortest step; `first` is the search's answer for all of `space`.

    Sets of groups are searched in the order of what they promise, until none promises more than there is.
    """
    fitting = that_fit(space, topology)
    best, allowed = first, fitting
    tries = 1 if len(problem.tables) * problem.ranks > MANY else TRIES
    for least, groups in least_by_groups(problem, fitting):
        step = _step(problem, best)
        if not tries or least >= step * (1 - LITTLE):
            break
        if groups == sharded_groups(problem.tables, best.options):
            continue
        tries -= 1
        rest = [option for option in fitting if _group(problem, option) in groups]
        try:
            found = search(rest, False)
        except NoPlan:
            continue
        if _step(problem, found) < step * (1 - 1e-9):
            best, allowed = found, rest
    return first if best is first else search(allowed, True)


def _step(problem: Problem, solution: Solution) -> float:
    """What groups and tables take, ms."""
    return solution.perf + fixed_ms(problem, sharded_groups(problem.tables, solution.options))


def _group(problem: Problem, option: ShardingOption) -> Group:
    return problem.tables[option.name].pooled, option.sharding_type


def work_ms(option: ShardingOption) -> float:
    """Of all its shards, ms."""
    runs = getattr(option.shards, "runs", None)
    if runs is not None:
        return float(sum(count * shard.perf.total for count, shard in runs))
    return float(sum(shard.perf.total for shard in option.shards))  # type: ignore[union-attr]


def _longest_ms(option: ShardingOption) -> float:
    """Of its shards, ms."""
    return float(max(shard.perf.total for shard in _different(option)))  # type: ignore[union-attr]


def _different(option: ShardingOption) -> Sequence[Shard]:
    """Its shards, equal neighbours once where they are kept so."""
    runs = getattr(option.shards, "runs", None)
    return option.shards if runs is None else [shard for _, shard in runs]
