"""A placement where memory is scarce. In: a Problem and a selection; out: an Assignment that fits, however slow, or None.

The same local search with the roles changed: bytes of the scarce memory take the place of milliseconds, so that the fullest
rank gives shards away until none is over its capacity. Time is looked at afterwards.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from interformer_rec.planning.search.candidate import PERF, Candidate
from interformer_rec.planning.search.improve import Stop, improve
from interformer_rec.planning.search.placement import NOWHERE, Assignment, Placement
from interformer_rec.planning.search.shake import shake
from interformer_rec.planning.search.space import Kind, Problem

STEPS = 20  # a rank
ROUNDS = 100


def squeeze(problem: Problem, order: list[tuple[int, int]], memory: int, stop: Stop) -> Assignment | None:
    """`order`: (bundle, candidate) in the order of placing; `memory`: the scarce resource (HBM, DDR or SSD)."""
    room = float(problem.capacity[:, memory].min())
    swapped = _swapped(problem, memory)
    placement = Placement(swapped, 0.0, max(room, 1.0))
    for bundle, number in order:
        others = [n for n in range(len(swapped.candidates(bundle))) if n != number]
        if not any(placement.put(bundle, n) for n in [number, *others]):
            return None
    improve(placement, STEPS * problem.world_size, room, stop)
    if placement.perf > room:
        shake(placement, ROUNDS, room, 0, stop)
    found = placement.assignment()
    real = Placement(problem)
    for bundle, number in enumerate(found.chosen):
        real.put_at(bundle, number, found.hosts[bundle], found.ranks[bundle])
    return real.assignment() if (real.load <= problem.capacity).all() and NOWHERE not in real.chosen else None


def _swapped(problem: Problem, memory: int) -> Problem:
    """The problem with milliseconds and one memory exchanged, and both without a limit."""
    order = list(range(problem.capacity.shape[1]))
    order[PERF], order[memory] = memory, PERF
    capacity = problem.capacity[:, order].copy()
    capacity[:, [PERF, memory]] = np.inf

    def exchange(candidate: Candidate) -> Candidate:
        runs = tuple((count, tuple(need[resource] for resource in order)) for count, need in candidate.runs)
        return replace(candidate, runs=runs, blocks=candidate.blocks[..., order], free=candidate.free[:, order])

    kinds = tuple(Kind(tuple(map(exchange, kind.candidates)), kind.bundles) for kind in problem.kinds)
    return replace(problem, kinds=kinds, capacity=capacity)
