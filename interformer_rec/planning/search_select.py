"""Which option each table takes, before anything is placed. In: a Problem; out: how many bundles of a kind take a candidate.

A linear program: the least total time that fits the memory of all ranks together. Only memory couples the tables, in three
rows, so at most a few kinds come out fractional; they are rounded. Without scarce memory every table takes its cheapest option.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_matrix, vstack

from interformer_rec.planning.search_space import PERF, Problem


class Columns:
    """All candidates of all kinds side by side, as the columns of linear programs."""

    def __init__(self, problem: Problem) -> None:
        every = [(kind, c) for kind, k in enumerate(problem.kinds) for c in k.candidates]
        self.kind = np.array([kind for kind, _ in every])
        self.candidates = [c for _, c in every]
        self.members = np.array([len(k.bundles) for k in problem.kinds], dtype=float)
        self.total = np.array([c.total for c in self.candidates])  # [columns, R]
        self.largest = np.array([c.largest for c in self.candidates])  # [columns, R]
        shards = [c.shards for c in self.candidates]
        self.shard_perf = np.concatenate([perf for perf, _ in shards])  # [distinct shards]
        self.shard_count = np.concatenate([count for _, count in shards])
        self.shard_column = np.repeat(np.arange(len(every)), [len(perf) for perf, _ in shards])
        self.capacity = problem.capacity.clip(min=0).sum(axis=0)  # [R]
        self.world_size = problem.world_size
        self.first = np.searchsorted(self.kind, np.arange(len(problem.kinds) + 1))  # kind -> its first column
        self.one_each = csr_matrix(
            (np.ones(len(every)), (self.kind, np.arange(len(every)))), shape=(len(problem.kinds), len(every))
        )

    def least_of_kind(self, values: np.ndarray) -> np.ndarray:
        """[columns] -> [kinds]: the smallest value of each kind."""
        return np.minimum.reduceat(values, self.first[:-1])

    def memory_rows(self) -> np.ndarray:
        """[rows, columns]: memory as a share of the capacity; only memories that could run out."""
        scarce = [
            r
            for r in range(1, 4)
            if self.largest[:, r].any()
            and (np.maximum.reduceat(self.total[:, r], self.first[:-1]) * self.members).sum() > 0.5 * self.capacity[r]
        ]
        return np.array([self.total[:, r] / max(self.capacity[r], 1.0) for r in scarce]).reshape(-1, len(self.kind))

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


def select(columns: Columns, longest: float, memory: float) -> np.ndarray | None:
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


def overflow(columns: Columns) -> float:
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


def _cheapest(columns: Columns, cost: np.ndarray) -> np.ndarray:
    counts = np.zeros(len(cost))
    for kind, (start, stop) in enumerate(zip(columns.first[:-1], columns.first[1:], strict=True)):
        counts[start + cost[start:stop].argmin()] = columns.members[kind]
    return counts


def _rounded(columns: Columns, fractions: np.ndarray) -> np.ndarray:
    """Whole numbers with the same sums: down, then the rest to the largest fractions."""
    counts = np.floor(fractions + 1e-6)
    for kind, (start, stop) in enumerate(zip(columns.first[:-1], columns.first[1:], strict=True)):
        missing = round(float(columns.members[kind] - counts[start:stop].sum()))
        order = np.argsort(counts[start:stop] - fractions[start:stop], kind="stable")
        counts[start + order[:missing]] += 1
    return counts
