"""Memory spread over the ranks, at no cost in time. In: a problem and its best Assignment; out: one as fast whose fullest rank holds less.

A full rank has no room for what nobody counted. So once the time is settled, ranks above a lower level give up their largest
shards, which are placed again below that level, cut smaller if need be; then the local search has to win back the time. The
level is found by bisection between the mean and the fullest rank.
"""

from dataclasses import replace

import numpy as np

from interformer_rec.planning.search.candidate import DDR, HBM
from interformer_rec.planning.search.improve import bundles_at, improve
from interformer_rec.planning.search.placement import Assignment, Placement
from interformer_rec.planning.search.shake import shake
from interformer_rec.planning.search.space import PlacementProblem

HALVINGS = 6
UNEVEN = 1.05  # a fullest rank with less than this times the mean is left alone
SAME = 1 + 1e-9  # times that differ by rounding
ROUNDS = 2_000  # of shaking after a try, over tables and ranks
MOST_ROUNDS = 20


def even(problem: PlacementProblem, best: Assignment, bound: float, steps: int, slack: float = 0.0) -> Assignment:
    """At most `slack` ms slower than `best`, never fuller. `bound`: a lower bound in ms; `steps`: of local search, a try."""
    goal = best.perf * SAME + slack
    full = _placement(problem, best, bound)
    memory = HBM if full.load[:, HBM].any() else DDR
    low, high = float(full.load[:, memory].mean()), float(full.load[:, memory].max())
    for _ in range(HALVINGS):
        if high <= low * UNEVEN:
            break
        found = _below(problem, best, goal, ((low + high) / 2, memory), bound, steps)
        if found is None:
            low = (low + high) / 2
        else:
            best, high = found.assignment(), float(found.load[:, memory].max())
    return best


def _placement(problem: PlacementProblem, best: Assignment, bound: float) -> Placement:
    placement = Placement(problem, max(bound, 1e-30))
    placement.restore(best)
    return placement


def _below(
    problem: PlacementProblem,
    best: Assignment,
    goal: float,
    limit: tuple[float, int],
    bound: float,
    steps: int,
) -> Placement | None:
    """In `goal` ms with at most so many bytes of a memory (`limit`) on every rank; None where that was not found."""
    level, memory = limit
    capacity = problem.capacity.copy()
    capacity[:, memory] = np.minimum(capacity[:, memory], level)
    placement = _placement(replace(problem, capacity=capacity), best, bound)
    if not all(_put_again(placement, bundle) for bundle in _taken_out(placement, memory)):
        return None
    improve(placement, steps, goal)
    if placement.most > goal:
        rounds = min(MOST_ROUNDS, ROUNDS // (len(problem.tables) + problem.world_size))
        shake(placement, rounds, goal)
    return placement if placement.most <= goal and (placement.load <= capacity).all() else None


def _taken_out(placement: Placement, memory: int) -> list[int]:
    """Remove the largest bundles of ranks that are over their capacity, those on every rank aside; empty ranks stay over it."""
    out: list[int] = []
    while True:
        over = placement.load[:, memory] - placement.capacity[:, memory]
        rank = int(over.argmax())
        bundles = [b for b in bundles_at(placement, rank) if not placement.candidate(b).runs] if over[rank] > 0 else []
        if not bundles:
            return out
        out.append(max(bundles, key=lambda b: (placement.candidate(b).peak[memory], -b)))
        placement.remove(out[-1])


def _put_again(placement: Placement, bundle: int) -> bool:
    """As the candidate after which the slowest rank, then all ranks together, take least; False where none fits."""
    best: tuple[float, float, int] | None = None
    for number in range(len(placement.problem.candidates(bundle))):
        if placement.put(bundle, number):
            costs = (placement.most, float(placement.cost.sum()), number)
            best = costs if best is None else min(best, costs)
            placement.remove(bundle)
    return best is not None and placement.put(bundle, best[2])
