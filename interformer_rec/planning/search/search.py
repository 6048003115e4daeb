"""A sharding plan in seconds. In: TorchRec ShardingOptions with estimates, and a Topology; out: Solution, the options placed.

The time of a plan is that of its slowest rank: the sum of `perf.total` of its shards, in milliseconds, as TorchRec's
NoopPerfModel rates plans. First a linear program picks options (select.py), then shards are placed, longest first
(placement.py), then the slowest rank is relieved as long as that works (improve.py). Several granularities are tried,
because the cheapest options may be too coarse to balance. Last, memory is spread (even.py). Deterministic.
"""

import copy
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torchrec.distributed.planner.types import Shard, ShardingOption, Topology

from interformer_rec.planning.search.bound import lower_bound, threshold_bound
from interformer_rec.planning.search.candidate import DDR, HBM, PASS, SSD
from interformer_rec.planning.search.errors import NoPlan, does_not_fit, group_too_small
from interformer_rec.planning.search.even import even
from interformer_rec.planning.search.exact import MOST, size_of, solve
from interformer_rec.planning.search.improve import improve
from interformer_rec.planning.search.placement import Assignment, Placement
from interformer_rec.planning.search.rank_groups import RankGroup
from interformer_rec.planning.search.select import ProgramColumns, RankSet, overflow, select, without_leftovers
from interformer_rec.planning.search.shake import shake
from interformer_rec.planning.search.space import PlacementProblem, build_problem
from interformer_rec.planning.search.squeeze import squeeze

CLOSE = 1e-3  # a plan this near its bound ends the search
FAR = 1.01  # one this far from it is worth selections of another kind
# a shard's time as a share of the bound on the plan's: finer balances better, costs more
SPLITS = (1.0, 0.5, 0.25, 0.7, 0.12)
MEMORY = (1.0, 0.97, 0.9, 0.8)  # share of the memory that the selection may use; the rest makes placing easier
ROUNDS = 10_000  # of shaking, over tables and ranks
LEAST_ROUNDS, MOST_ROUNDS = 60, 250
WEIGHTS = (0.0, 0.5, 1.0)  # place by time, by both, by memory


@dataclass(frozen=True)
class Solution:
    """A plan: one option a table, its shards' ranks filled in, as a TorchRec Partitioner returns them.

    `perf` and `bound` in milliseconds: the slowest rank's sum of perf.total, and what no plan of this space can beat.
    `hbm_per_rank` and `ddr_per_rank` in bytes.
    """

    options: list[ShardingOption]
    perf: float
    bound: float
    seconds: float
    hbm_per_rank: list[int]
    ddr_per_rank: list[int]

    @property
    def gap(self) -> float:
        """(perf - bound) / bound: the plan is within this share of the best possible; 0 is proven best."""
        return self.perf / self.bound - 1 if self.bound > 0 else 0.0


def search(
    space: Sequence[ShardingOption],
    topology: Topology,
    *,
    groups: Mapping[str, RankGroup] | None = None,
    refine: bool = True,
    slack: float = 0.0,
) -> Solution:
    """The best plan found for the tables of `space` on `topology`, whose storage is already reduced by what is reserved.

    `space` comes from TorchRec's enumerator or from enumerate_grouped, with all estimates; its options are not changed.
    `groups`: tables that may not lie everywhere, and the ranks they have to stay on. Without `refine` the first good plan is taken,
    and the bound is the plain one: to compare spaces. `slack`: ms that may go for ranks that are less full.
    Raises NoPlan, with the numbers, where no placement is possible or none is found.
    """
    started = time.monotonic()
    if not space:
        return Solution([], 0.0, 0.0, 0.0, [0] * topology.world_size, [0] * topology.world_size)
    problem = build_problem(space, topology, groups)
    best = _Search(problem).run(refine, slack)
    placement = Placement(problem)
    placement.restore(best[0])
    return Solution(
        options=_placed(problem, best[0]),
        perf=placement.most,
        bound=min(best[1], placement.most),
        seconds=time.monotonic() - started,
        hbm_per_rank=[int(n) for n in placement.load[:, HBM]],
        ddr_per_rank=[int(n) for n in placement.load[:, DDR]],
    )


class _Search:
    """One run: the best assignment so far and the bound."""

    def __init__(self, problem: PlacementProblem) -> None:
        self.problem, self.columns = problem, ProgramColumns(problem)
        self.best: Assignment | None = None
        self.bound = 0.0
        self._steps = 200 + 20 * problem.world_size
        # of the attempt that came furthest: how many bundles had no place, and the first of them
        self._unplaced: tuple[int, int] | None = None

    def run(self, refine: bool, slack: float) -> tuple[Assignment, float]:
        """(the best assignment, the bound)."""
        self._check_memory()
        self.bound = threshold_bound(self.columns)
        tried: set[bytes] = set()
        for longest, memory in self._settings():
            if self.best is not None and self.best.perf <= self.bound * (1 + CLOSE):
                break
            for counts in self._selections(longest, memory):
                if counts.tobytes() not in tried:
                    tried.add(counts.tobytes())
                    self._attempt(counts)
        if self.best is None:
            self._squeeze()
        if self.best is not None and not refine:
            return self.best, self.bound
        if self.best is not None:
            self.bound = lower_bound(self.columns, self.bound, self.best.perf)
            self._polish(self.best)
        open_gap = self.best is None or self.best.perf > self.bound * (1 + 1e-6)
        if open_gap and size_of(self.problem) <= MOST:
            self.best, self.bound = solve(self.problem, self.best, self.bound)
        if self.best is None:
            raise self._none_found(proven=np.isinf(self.bound))
        return even(self.problem, self.best, self.bound, self._steps, slack), self.bound

    def _squeeze(self) -> None:
        """Where no selection could be placed: make it fit first, then fast."""
        for memory, share in itertools.product((HBM, DDR, SSD), MEMORY):
            counts = select(self.columns, np.inf, share)
            if counts is None or not self.columns.largest[:, memory].any():
                continue
            found = squeeze(self.problem, self._order(counts, memory), memory)
            if found is not None and (self.best is None or found.perf < self.best.perf):
                placement = Placement(self.problem, max(self.bound, 1e-30))
                placement.restore(found)
                improve(placement, self._steps, self.bound * (1 + CLOSE))
                self.best = placement.assignment()

    def _polish(self, best: Assignment) -> None:
        placement = Placement(self.problem, max(self.bound, 1e-30))
        placement.restore(best)
        rounds = min(MOST_ROUNDS, max(LEAST_ROUNDS, ROUNDS // (len(self.problem.tables) + self.problem.world_size)))
        shake(placement, rounds, self.bound * (1 + CLOSE))
        if placement.most < best.perf:
            self.best = placement.assignment()

    def _selections(self, longest: float, memory: float) -> Iterator[np.ndarray]:
        """What the linear program picks; and, if a plan of that is far from the bound, the same with its leftovers cut finer."""
        counts = select(self.columns, longest, memory)
        if counts is None:
            return
        yield counts
        if self.best is not None and self.best.perf > self.bound * FAR:
            other = without_leftovers(self.columns, counts)
            if other is not None:
                yield other

    def _settings(self) -> Iterator[tuple[float, float]]:
        for memory in MEMORY:
            for split in SPLITS:
                yield self.bound * split, memory
            if self.best is not None:
                return

    def _attempt(self, counts: np.ndarray) -> None:
        for weight in WEIGHTS:
            placement = Placement(self.problem, max(self.bound, 1e-30), weight)
            if self._place(placement, counts):
                improve(placement, self._steps, self.bound * (1 + CLOSE))
                if self.best is None or placement.most < self.best.perf:
                    self.best = placement.assignment()
                return

    def _place(self, placement: Placement, counts: np.ndarray) -> bool:
        """Every bundle as selected, or as anything else that fits: uniform first, then the largest first."""
        order = self._order(counts)
        for done, (bundle, number) in enumerate(order):
            if not placement.put_any(bundle, number):
                left = len(order) - done
                if self._unplaced is None or left < self._unplaced[0]:
                    self._unplaced = (left, bundle)
                return False
        return True

    def _order(self, counts: np.ndarray, resource: int | None = None) -> list[tuple[int, int]]:
        """(bundle, candidate) in the order of placing; size is that of the scarcest resource, or of the one given.

        What is on all ranks comes first, then what may go to the fewest.
        """
        capacity = self.problem.capacity[:, :PASS]
        room = np.where(np.isinf(capacity), max(self.bound, 1e-30), np.maximum(capacity, 1.0)).max(0)
        ranks = [len(group.ranks) for group in self.problem.groups]
        order: list[tuple[bool, int, float, int, int]] = []
        for kind, members in enumerate(self.problem.kinds):
            first, bundles = self.columns.first[kind], iter(members.bundles)
            for number, candidate in enumerate(members.candidates):
                sizes = candidate.largest[:PASS] / room
                places = min((n for n, need in zip(ranks, candidate.peak[PASS:], strict=True) if need), default=1 << 30)
                size = float(sizes.max() if resource is None else sizes[resource])
                for _ in range(int(counts[first + number])):
                    order.append((not candidate.runs, places, -size, next(bundles), number))
        return [(bundle, number) for *_, bundle, number in sorted(order)]

    def _check_memory(self) -> None:
        over = overflow(self.columns)
        if over <= 1e-9:
            return
        columns = self.columns
        for number, part in enumerate(columns.parts[1:], start=1):
            need, room = columns.least(number), columns.capacity[number]
            if (need[HBM:] > room[HBM:PASS]).any():
                raise group_too_small(part.label, self._kept_on(part), need, room)
        raise does_not_fit(columns.least(0), columns.capacity[0], over)

    def _kept_on(self, part: RankSet) -> list[str]:
        """Names of tables that may not leave the part's ranks."""
        return [
            options[0].name
            for bundle, tables in enumerate(self.problem.tables)
            for options in tables
            if np.array(self.problem.candidates(bundle)[0].peak[PASS:])[part.passes].any()
        ]

    def _none_found(self, proven: bool) -> NoPlan:
        table = self.problem.tables[self._unplaced[1]][0][0].name if self._unplaced is not None else None
        return NoPlan(
            f"no placement found for {len(self.problem.tables)} tables on {self.problem.world_size} ranks, though their memory "
            f"fits in sum; the first table without room is {table!r}. Use more ranks, allow more sharding types or kernels, "
            f"or reserve less memory.",
            proven,
        )


def _placed(problem: PlacementProblem, best: Assignment) -> list[ShardingOption]:
    """Copies of the chosen options, with ranks, in the order of the tables."""
    options: list[ShardingOption] = []
    for bundle, of_tables in enumerate(problem.tables):
        candidate = problem.candidates(bundle)[best.chosen[bundle]]
        for table, part in zip(of_tables, candidate.parts, strict=True):
            option = copy.copy(table[part.option])
            size = problem.host_size
            if part.place == "uniform":
                ranks = list(range(problem.world_size))
            elif part.place == "block":
                ranks = [host * size + local for host in best.hosts[bundle] for local in range(size)]
            else:
                ranks = list(best.ranks[bundle][part.start : part.stop])
            option.shards = [
                Shard(size=list(s.size), offset=list(s.offset), storage=s.storage, perf=s.perf, rank=rank)
                for s, rank in zip(option.shards, ranks, strict=True)
            ]
            options.append(option)
    return options
