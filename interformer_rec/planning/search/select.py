"""Which option each table takes, before anything is placed. In: a PlacementProblem; out: how many bundles of a kind take a candidate.

A linear program: the least total time that fits the memory of all ranks together. Only memory couples the tables, in three
rows (and three more for each group of ranks that tables are kept on), so at most a few kinds come out fractional; they are
rounded. Without scarce memory every table takes its cheapest option.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_matrix, vstack

from interformer_rec.planning.search.candidate import HBM, PASS, PERF, Candidate
from interformer_rec.planning.search.space import PlacementProblem

ALIKE = 0.9  # shards at least this long, as a share of the longest of them, are taken to be equally long


@dataclass(frozen=True, eq=False)
class RankSet:
    """Ranks that have to hold what is theirs alone: all of them, or a group that some tables may not leave."""

    label: str  # empty for all
    mask: np.ndarray  # [W]
    passes: np.ndarray  # [groups]: those that lie inside

    def held(self, candidate: Candidate) -> np.ndarray:
        """[distinct shards] how many of each lie on ranks of the part, wherever the candidate is placed."""
        single = np.concatenate([candidate.blocks.reshape(-1, candidate.free.shape[1]), candidate.free])
        inside = (single[:, PASS:][:, self.passes] > 0).any(axis=1) if self.label else np.ones(len(single), dtype=bool)
        ends = np.cumsum([count for count, _ in candidate.runs], dtype=int)
        everywhere = [int(ranks.sum()) for ranks in np.split(self.mask, ends)[:-1]] if len(ends) else []
        return np.concatenate([np.array(everywhere, dtype=float), inside.astype(float)])


def parts_of(problem: PlacementProblem) -> list[RankSet]:
    """All ranks, every group, and what groups cover together."""
    ranks = [set(group.ranks) for group in problem.groups]
    covered = [(group.label, set(group.ranks)) for group in problem.groups]
    union = set().union(*ranks)
    if 0 < len(union) < problem.world_size and union not in ranks:
        covered.append((" and ".join(group.label for group in problem.groups), union))
    parts = [RankSet("", np.ones(problem.world_size, dtype=bool), np.ones(len(ranks), dtype=bool))]
    for label, members in covered:
        mask = np.isin(np.arange(problem.world_size), list(members))
        parts.append(RankSet(label, mask, np.array([other <= members for other in ranks])))
    return parts


class ProgramColumns:
    """All candidates of all kinds side by side, as the columns of linear programs. P parts: parts_of."""

    def __init__(self, problem: PlacementProblem) -> None:
        every = [(kind, c) for kind, k in enumerate(problem.kinds) for c in k.candidates]
        self.kind = np.array([kind for kind, _ in every])
        self.candidates = [c for _, c in every]
        self.members = np.array([len(k.bundles) for k in problem.kinds], dtype=float)
        self.largest = np.array([c.largest for c in self.candidates])  # [columns, R]
        self.parts = parts_of(problem)
        shards = [c.shards for c in self.candidates]  # [distinct shards, R] each
        self.shard_perf = np.concatenate([needs[:, PERF] for needs in shards])
        self.shard_column = np.repeat(np.arange(len(every)), [len(needs) for needs in shards])
        held = [[part.held(c) for c in self.candidates] for part in self.parts]
        self.shard_count = np.array([np.concatenate(counts) for counts in held])  # [P, distinct shards]
        # [P, columns, R]: what certainly falls on the ranks of a part
        self.inside = np.array([[c @ n for c, n in zip(counts, shards, strict=True)] for counts in held])
        self.total = self.inside[0]
        self.capacity = np.array([problem.capacity.clip(min=0)[part.mask].sum(axis=0) for part in self.parts])  # [P, R]
        self.ranks = np.array([part.mask.sum() for part in self.parts])  # [P]
        self.first = np.searchsorted(self.kind, np.arange(len(problem.kinds) + 1))  # kind -> its first column
        self.one_each = csr_matrix(
            (np.ones(len(every)), (self.kind, np.arange(len(every)))), shape=(len(problem.kinds), len(every))
        )

    def least_of_kind(self, values: np.ndarray) -> np.ndarray:
        """[columns] -> [kinds]: the smallest value of each kind."""
        return np.minimum.reduceat(values, self.first[:-1])

    def least(self, part: int) -> np.ndarray:
        """[R]: the least that all tables take of a part's ranks, each resource by itself."""
        each = [self.least_of_kind(self.inside[part][:, r]) @ self.members for r in range(PASS)]
        return np.array(each)

    def memory_rows(self) -> np.ndarray:
        """[rows, columns]: memory as a share of the capacity, of all ranks and of each group; only what could run out."""
        rows = []
        for inside, capacity in zip(self.inside, self.capacity, strict=True):
            for r in range(HBM, PASS):
                most = (np.maximum.reduceat(inside[:, r], self.first[:-1]) * self.members).sum()
                if inside[:, r].any() and most > 0.5 * capacity[r]:
                    rows.append(inside[:, r] / max(capacity[r], 1.0))
        return np.array(rows).reshape(-1, len(self.kind))

    def solve(
        self, cost: np.ndarray, allowed: np.ndarray, rows: np.ndarray, limits: np.ndarray
    ) -> tuple[np.ndarray, float] | None:
        """min cost @ y with sum(y) = members for each kind, rows @ y <= limits, y = 0 where not allowed; None: infeasible."""
        upper = np.where(allowed, self.members[self.kind], 0.0)
        result = linprog(
            cost,
            A_ub=csr_matrix(rows) if len(rows) else None,
            b_ub=limits if len(rows) else None,
            A_eq=self.one_each,
            b_eq=self.members,
            bounds=np.stack([np.zeros_like(upper), upper], axis=1),
            method="highs-ds",  # a vertex: few fractions to round
        )
        return (result.x, float(result.fun)) if result.status == 0 else None


def select(columns: ProgramColumns, longest: float, memory: float) -> np.ndarray | None:
    """[columns] whole counts. `longest`: ms of a shard where a kind has a choice; `memory`: share of the capacity to use.

    None where even fractions of tables do not fit.
    """
    least = columns.least_of_kind(columns.largest[:, PERF])[columns.kind]
    allowed = columns.largest[:, PERF] <= np.maximum(longest, least) * (1 + 1e-9)
    rows = columns.memory_rows()
    cost = columns.total[:, PERF] / max(1e-30, float(columns.total[:, PERF].max()))
    cheapest = _cheapest(columns, np.where(allowed, cost, np.inf))
    if not len(rows) or (rows @ cheapest <= memory).all():
        return cheapest
    solved = columns.solve(cost, allowed, rows, np.full(len(rows), memory))
    if solved is None:
        solved = columns.solve(cost, np.ones_like(allowed), rows, np.full(len(rows), memory))
    return None if solved is None else _rounded(columns, solved[0])


def without_leftovers(columns: ProgramColumns, counts: np.ndarray) -> np.ndarray | None:
    """A selection with as many long shards as ranks, or twice, three times as many; None where it already is so.

    120 equally long shards on 16 ranks are 8 on half of them and 7 on the others. Cutting 8 of them finer fills the difference.
    Shards of nearly one length are counted together, whichever tables they are of, the longest first.
    """
    longest, ranks = columns.largest[:, PERF], len(columns.parts[0].mask)
    single = np.array([len(c.free) == 1 and not c.runs for c in columns.candidates])
    taken = np.flatnonzero((counts > 0) & single)
    taken = taken[np.argsort(-longest[taken], kind="stable")]
    found, changed = counts.copy(), False
    while len(taken):
        alike = taken[longest[taken] >= longest[taken[0]] * ALIKE]
        taken = taken[len(alike) :]
        number = int(counts[alike].sum())
        left = number % ranks if number > ranks else 0
        for column, other in _cheapest_first(columns, alike):
            moved = min(left, int(found[column]))
            found[column], found[other], left = found[column] - moved, found[other] + moved, left - moved
            changed = changed or moved > 0
    rows = columns.memory_rows()
    return found if changed and (not len(rows) or (rows @ found <= 1).all()) else None


def _cheapest_first(columns: ProgramColumns, those: np.ndarray) -> list[tuple[int, int]]:
    """(column, the cheapest of its kind whose shards are at most half as long), by what that adds."""
    found: list[tuple[float, int, int]] = []
    for column in those.tolist():
        start, stop = columns.first[columns.kind[column]], columns.first[columns.kind[column] + 1]
        short = columns.largest[start:stop, PERF] <= columns.largest[column, PERF] / 2
        if short.any():
            cost = np.where(short, columns.total[start:stop, PERF], np.inf)
            found.append((float(cost.min() - columns.total[column, PERF]), column, int(start + cost.argmin())))
    return [(column, other) for _, column, other in sorted(found)]


def overflow(columns: ProgramColumns) -> float:
    """By which share of the capacity the least memory need of all tables exceeds it, if options could be mixed freely."""
    rows = columns.memory_rows()
    if not len(rows):
        return 0.0
    # min of the larger overflow: one more column that every memory row may lean on.
    cost = np.append(np.zeros(len(columns.kind)), 1.0)
    eq = csr_matrix((columns.one_each.data, columns.one_each.nonzero()), shape=(len(columns.members), len(cost)))
    ub = np.hstack([rows, -np.ones((len(rows), 1))])
    result = linprog(cost, A_ub=vstack([csr_matrix(ub)]), b_ub=np.ones(len(rows)), A_eq=eq, b_eq=columns.members)
    return float(result.fun) if result.status == 0 else np.inf


def _cheapest(columns: ProgramColumns, cost: np.ndarray) -> np.ndarray:
    counts = np.zeros(len(cost))
    for kind, (start, stop) in enumerate(zip(columns.first[:-1], columns.first[1:], strict=True)):
        counts[start + cost[start:stop].argmin()] = columns.members[kind]
    return counts


def _rounded(columns: ProgramColumns, fractions: np.ndarray) -> np.ndarray:
    """Whole numbers with the same sums: down, then the rest to the largest fractions."""
    counts = np.floor(fractions + 1e-6)
    for kind, (start, stop) in enumerate(zip(columns.first[:-1], columns.first[1:], strict=True)):
        missing = round(float(columns.members[kind] - counts[start:stop].sum()))
        order = np.argsort(counts[start:stop] - fractions[start:stop], kind="stable")
        counts[start + order[:missing]] += 1
    return counts
