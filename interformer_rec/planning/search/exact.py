"""Small problems, solved. In: a PlacementProblem and the best placement so far; out: a better one if there is one, and a bound.

A mixed integer program for HiGHS: which candidate, on which rank or host, and the time of the slowest rank to be least. Only
for some hundred binary variables, and for a number of nodes rather than seconds, so that the answer is always the same.
"""

from collections.abc import Iterable

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_matrix

from interformer_rec.planning.search.candidate import PASS, PERF, Candidate
from interformer_rec.planning.search.placement import Assignment, Placement
from interformer_rec.planning.search.space import PlacementProblem

MOST = 400  # binary variables
NODES = 400


class _Program:
    """Columns, and rows as triplets."""

    def __init__(self, problem: PlacementProblem, scale: float) -> None:
        self.problem, self.scale = problem, scale
        self.columns = 0
        self.low: list[float] = []
        self.high: list[float] = []
        self._entries: list[tuple[int, int, float]] = []
        self.room = np.where(np.isinf(problem.capacity), scale, np.maximum(problem.capacity, 1.0))
        self.resources = problem.capacity.shape[1]
        # Rows 0 to R W: what rank r takes of resource k, as a share; time is compared with the last column.
        for _ in range(self.resources * problem.world_size):
            self.row([], -np.inf, 0.0)

    def variable(self) -> int:
        self.columns += 1
        return self.columns - 1

    def row(self, entries: Iterable[tuple[int, float]], low: float, high: float) -> None:
        self._entries.extend((len(self.low), column, value) for column, value in entries)
        self.low.append(low)
        self.high.append(high)

    def load(self, column: int, rank: int, need: np.ndarray) -> None:
        share = need / self.room[rank]
        self._entries.extend(
            (self.resources * rank + k, column, float(share[k])) for k in np.flatnonzero(share).tolist()
        )

    def matrix(self) -> csr_matrix:
        rows, columns, values = (np.array(part) for part in zip(*self._entries, strict=True))
        return csr_matrix((values, (rows, columns)), shape=(len(self.low), self.columns))


class _Choice:
    """The variables of one bundle as one candidate."""

    def __init__(self, program: _Program, candidate: Candidate) -> None:
        problem, size = program.problem, program.problem.host_size
        self.chosen = program.variable()
        if candidate.uniform is not None:
            for rank, need in enumerate(candidate.uniform):
                program.load(self.chosen, rank, need)
        together = candidate.same_host and len(candidate.free) > 0
        self.hosts = [[program.variable() for _ in range(problem.hosts)] for _ in candidate.blocks]
        if together and not self.hosts:
            self.hosts = [[program.variable() for _ in range(problem.hosts)]]
        for block, columns in zip(candidate.blocks, self.hosts, strict=False):
            for host, column in enumerate(columns):
                for local, need in enumerate(block):
                    program.load(column, host * size + local, need)
        self.ranks = [[program.variable() for _ in range(problem.world_size)] for _ in candidate.free]
        for need, columns in zip(candidate.free, self.ranks, strict=True):
            for rank, column in enumerate(columns):
                program.load(column, rank, need)
                if together:
                    allowed = [(self.hosts[0][rank // size], -1.0)] if rank // size < problem.hosts else []
                    program.row([(column, 1.0), *allowed], -np.inf, 0.0)
        for columns in [*self.hosts, *self.ranks]:
            program.row([*((c, 1.0) for c in columns), (self.chosen, -1.0)], 0.0, 0.0)
        if candidate.distinct:
            for rank in range(problem.world_size):
                program.row([(columns[rank], 1.0) for columns in self.ranks], -np.inf, 1.0)
        if len(candidate.blocks) > 1 and len(candidate.blocks) <= problem.hosts:
            for host in range(problem.hosts):
                program.row([(columns[host], 1.0) for columns in self.hosts], -np.inf, 1.0)


def size_of(problem: PlacementProblem) -> int:
    """Binary variables that the program would have."""
    return sum(
        1 + len(c.blocks) * problem.hosts + len(c.free) * problem.world_size + problem.hosts * c.same_host
        for bundle in range(len(problem.tables))
        for c in problem.candidates(bundle)
    )


def solve(problem: PlacementProblem, best: Assignment | None, bound: float) -> tuple[Assignment | None, float]:
    """(best assignment known, lower bound in milliseconds); infinite where it is proven that nothing fits."""
    scale = best.perf if best is not None else max(bound, 1e-30)
    program = _Program(problem, scale)
    choices = [[_Choice(program, c) for c in problem.candidates(bundle)] for bundle in range(len(problem.tables))]
    for bundle in choices:
        program.row([(choice.chosen, 1.0) for choice in bundle], 1.0, 1.0)
    slowest = program.variable()
    low, high = np.array(program.low), np.array(program.high)
    for rank in range(problem.world_size):
        first = program.resources * rank
        program._entries.append((first + PERF, slowest, -1.0))
        high[first + 1 : first + PASS] = 1.0
        high[first + PASS : first + program.resources] = problem.capacity[rank, PASS:]  # nothing, or any number
    cost = np.zeros(program.columns)
    cost[slowest] = 1.0
    upper = np.ones(program.columns)
    upper[slowest] = 1.0 if best is not None else np.inf
    result = milp(
        cost,
        constraints=LinearConstraint(program.matrix(), low, high),
        bounds=Bounds(np.append(np.zeros(program.columns - 1), bound / scale * (1 - 1e-6)), upper),
        integrality=np.append(np.ones(program.columns - 1), 0),
        options={"node_limit": NODES, "mip_rel_gap": 1e-6},
    )
    if result.status == 2:  # nothing is as fast as the best, or nothing fits
        return best, (best.perf if best is not None else np.inf)
    proven = max(bound, float(result.mip_dual_bound or 0.0) * scale * (1 - 1e-6))
    if result.x is None:
        return best, proven
    found = _assignment(problem, choices, result.x)
    if found is not None and (best is None or found.perf < best.perf):
        return found, min(proven, found.perf)
    return best, proven


def _assignment(problem: PlacementProblem, choices: list[list[_Choice]], x: np.ndarray) -> Assignment | None:
    """None where the solver's tolerance hides a byte too much."""
    placement = Placement(problem)
    for bundle, options in enumerate(choices):
        number = int(np.argmax([x[choice.chosen] for choice in options]))
        choice, blocks = options[number], len(problem.candidates(bundle)[number].blocks)
        hosts = tuple(int(np.argmax(x[columns])) for columns in choice.hosts[:blocks])
        placement.put_at(bundle, number, hosts, tuple(int(np.argmax(x[columns])) for columns in choice.ranks))
    return placement.assignment() if (placement.load <= problem.capacity).all() else None
