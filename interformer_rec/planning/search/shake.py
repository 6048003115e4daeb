"""Out of local optima: a few ranks are emptied and filled again, otherwise. In: a full Placement; out: the same, no slower.

Large neighbourhood search: the slowest rank and some others, drawn from a seeded generator, give up all bundles that are not
on every rank; those are placed again in another order, some as another candidate, and improved. What is slower is undone.
"""

import numpy as np

from interformer_rec.planning.search.improve import LESS, improve
from interformer_rec.planning.search.placement import NOWHERE, Placement

OTHERS = 4  # ranks emptied beside the slowest, at most
REMOVED = 24  # bundles taken out at once, at most
CHANGED = 0.25  # of them become another candidate
CLEANUP = 12
SEED = 0


def shake(placement: Placement, rounds: int, goal: float) -> None:
    """`rounds` attempts, fewer when the slowest rank takes `goal` milliseconds."""
    draw = np.random.default_rng(SEED)
    for _ in range(rounds):
        top = placement.most
        if top <= goal:
            return
        before, spread = placement.snapshot(), float(np.square(placement.cost).sum())
        if _refill(placement, draw):
            improve(placement, CLEANUP, goal)
            if placement.most < top * LESS:
                continue
            # As slow but more even: a step sideways, from which the next round starts.
            if placement.most <= top and float(np.square(placement.cost).sum()) < spread * LESS:
                continue
        placement.rollback(before)


def _refill(placement: Placement, draw: np.random.Generator) -> bool:
    """False where the bundles taken out do not fit any more."""
    slowest = int(placement.cost.argmax())
    world_size = len(placement.load)
    # The fastest quarter has the room; in a small cluster that is nobody, and all are drawn from.
    pool = np.argsort(placement.cost, kind="stable")[: max(world_size // 4, OTHERS)]
    others = draw.choice(pool, size=min(len(pool), int(draw.integers(1, OTHERS + 1))), replace=False)
    out = _tenants(placement, [slowest, *others.tolist()])
    if not out:
        return False
    if len(out) > REMOVED:
        out = [out[i] for i in sorted(draw.choice(len(out), size=REMOVED, replace=False).tolist())]
    again: list[tuple[float, int, int]] = []
    for bundle in out:
        candidates, number = placement.problem.candidates(bundle), placement.chosen[bundle]
        if len(candidates) > 1 and draw.random() < CHANGED:
            # Cheap ones more often: an option that takes twice the time is drawn half as often.
            # a table that no row reads takes no time
            work = np.maximum([c.total[placement.resource] for c in candidates], 1e-30)
            chance = work.min() / work
            number = int(draw.choice(len(candidates), p=chance / chance.sum()))
        noise = draw.uniform(0.7, 1.3)
        again.append((-noise * float(candidates[number].peak[placement.resource]), bundle, number))
        placement.remove(bundle)
    return all(placement.put(bundle, number) for _, bundle, number in sorted(again))


def _tenants(placement: Placement, ranks: list[int]) -> list[int]:
    """Bundles with shards on the ranks, without those that are on every rank, ascending; a random one of those joins."""
    hosts = sorted({rank // placement.problem.host_size for rank in ranks[:1]})
    rows = placement.free.at(*ranks)
    found = set(placement.free.owner[rows].tolist()) | set(placement.blocks.owner[placement.blocks.at(*hosts)].tolist())
    return sorted(bundle for bundle in found if bundle != NOWHERE)
