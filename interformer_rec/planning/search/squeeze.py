"""A placement where memory is scarce. In: a PlacementProblem and a selection; out: an Assignment that fits, however slow, or None.

The same local search, with bytes of the scarce memory as the cost: the fullest rank gives shards away until none is over its
capacity. Time is looked at afterwards.
"""

from dataclasses import replace

import numpy as np

from interformer_rec.planning.search.improve import improve
from interformer_rec.planning.search.placement import Assignment, Placement
from interformer_rec.planning.search.shake import shake
from interformer_rec.planning.search.space import PlacementProblem

STEPS = 20  # a rank
ROUNDS = 100


def squeeze(problem: PlacementProblem, order: list[tuple[int, int]], memory: int) -> Assignment | None:
    """`order`: (bundle, candidate) in the order of placing; `memory`: the scarce resource (HBM, DDR or SSD)."""
    room = float(problem.capacity[:, memory].min())
    boundless = problem.capacity.copy()
    boundless[:, memory] = np.inf
    placement = Placement(replace(problem, capacity=boundless), max(room, 1.0), resource=memory)
    if not all(placement.put_any(bundle, number) for bundle, number in order):
        return None
    improve(placement, STEPS * problem.world_size, room)
    if placement.most > room:
        shake(placement, ROUNDS, room)
    fitted = Placement(problem)
    fitted.restore(placement.assignment())
    return fitted.assignment() if (fitted.load <= problem.capacity).all() else None
