"""Local search: the slowest rank gives something away until nothing helps. In: a full Placement; out: the same, no slower.

"Slow" is by `placement.cost`: milliseconds, or bytes where memory is searched for (squeeze.py). Every accepted change makes
the slowest rank faster and no rank that it touches as slow as that one was, so the sorted loads fall lexicographically and
the search ends. From cheap to dear: move a shard, swap two, move or swap blocks between hosts, give a bundle another
candidate; and, to leave a local optimum, empty a few ranks and fill them again.
"""

from collections.abc import Iterable

import numpy as np

from interformer_rec.planning.search.candidate import PASS
from interformer_rec.planning.search.placement import NOWHERE, Placement

LESS = 1 - 1e-9  # a gain smaller than this is rounding
PARTNERS = 64  # ranks, the fastest, that a swap looks at
PAIRED = 12  # shards of a rank, the longest, that are exchanged in twos
RECHOSEN = 40  # bundles of the slowest rank that are tried as something else


def improve(placement: Placement, steps: int, goal: float) -> None:
    """At most `steps` changes, until the slowest rank takes `goal` milliseconds."""
    for _ in range(steps):
        rank = int(placement.cost.argmax())
        if placement.cost[rank] <= goal:
            return
        changed = _move(placement, rank) or _swap(placement, rank) or _move_blocks(placement, rank)
        if not (changed or _exchange(placement, rank) or _swap_blocks(placement, rank) or _rechoose(placement, rank)):
            return


def _movable(placement: Placement, ranks: np.ndarray) -> np.ndarray:
    """Rows of free shards that lie on ranks of the mask [W] and may move one by one."""
    free, size = placement.free, placement.free.size
    place = free.place[:size]
    return np.flatnonzero((place != NOWHERE) & ~free.tied[:size] & ranks[place])


def _may_go(placement: Placement, rows: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """[n] free shards, [m] -> [n, m]: those that have to stay on a host or in a group stay there."""
    home = placement.free.home[rows][:, None]
    may = (home == NOWHERE) | (home == ranks[None, :] // placement.problem.host_size)
    return may & _with_pass(placement, placement.free.need[rows], ranks)


def _with_pass(placement: Placement, needs: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """[n, R], [m] -> [n, m]: has the rank the passes that it takes? One cell for all where no table needs any."""
    if placement.load.shape[1] == PASS:
        return np.ones((1, 1), dtype=bool)
    lacking = placement.capacity[ranks, PASS:] == 0
    return (needs[:, PASS:] @ lacking.T.astype(float)) == 0


def _only(placement: Placement, ranks: Iterable[int] | np.ndarray) -> np.ndarray:
    mask = np.zeros(len(placement.load), dtype=bool)
    mask[list(ranks)] = True
    return mask


def _move(placement: Placement, rank: int) -> bool:
    """One shard of the slowest rank to wherever the slower of the two is then fastest."""
    free, load = placement.free, placement.load
    rows = _movable(placement, _only(placement, [rank]))
    if not len(rows):
        return False
    need, top = free.need[rows], placement.cost[rank]
    given = need[:, placement.resource][:, None]
    slower = np.maximum(placement.cost[None, :] + given, top - given)
    slower[:, rank] = np.inf
    slower[~_may_go(placement, rows, np.arange(len(load)))] = np.inf
    for row, target in _ascending(slower, top):
        if (load[target] + need[row] <= placement.capacity[target]).all():
            placement.move(int(rows[row]), target)
            return True
    return False


def _swap(placement: Placement, rank: int) -> bool:
    """One shard of the slowest rank for a faster one of a fast rank."""
    free = placement.free
    mine = _movable(placement, _only(placement, [rank]))
    fast = np.argsort(placement.cost, kind="stable")[:PARTNERS]
    theirs = _movable(placement, _only(placement, fast[fast != rank]))
    if not len(mine) or not len(theirs):
        return False
    there = free.place[theirs]
    slower = _after_swap(placement, rank, there, free.need[mine], free.need[theirs])
    slower[~_may_go(placement, mine, there)] = np.inf
    slower[:, ~_may_go(placement, theirs, np.array([rank]))[:, 0]] = np.inf
    for i, j in _ascending(slower, placement.cost[rank]):
        other = int(there[j])
        if _both_have_room(placement, rank, other, free.need[mine[i]] - free.need[theirs[j]]):
            placement.move(int(mine[i]), other)
            placement.move(int(theirs[j]), rank)
            return True
    return False


def _exchange(placement: Placement, rank: int) -> bool:
    """One or two shards of the slowest rank for one or two of another: where shards are few and long, single swaps are not enough."""
    free = placement.free
    mine, my_rows = _pairs(placement, np.array([rank]))
    fast = np.argsort(placement.cost, kind="stable")[: 4 * PARTNERS]
    theirs, their_rows = _pairs(placement, fast[fast != rank])
    if not len(mine) or not len(theirs):
        return False
    there = free.place[their_rows[:, 0]]
    slower = _after_swap(placement, rank, there, mine, theirs)
    may = _with_pass(placement, mine, there) & _with_pass(placement, theirs, np.array([rank])).T
    slower[~np.broadcast_to(may, slower.shape)] = np.inf
    for i, j in _ascending(slower, placement.cost[rank]):
        other = int(there[j])
        if _both_have_room(placement, rank, other, mine[i] - theirs[j]):
            for row, target in [*((r, other) for r in my_rows[i]), *((r, rank) for r in their_rows[j])]:
                if free.place[row] != target:  # a shard alone is written twice
                    placement.move(int(row), target)
            return True
    return False


def _after_swap(placement: Placement, rank: int, there: np.ndarray, mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """[n, R] needs on the rank, [m, R] needs on the ranks `there` -> [n, m] the slower of the two ranks after each swap."""
    gain = mine[:, placement.resource][:, None] - theirs[:, placement.resource][None, :]
    return np.maximum(placement.cost[rank] - gain, placement.cost[there][None, :] + gain)


def _both_have_room(placement: Placement, rank: int, other: int, given: np.ndarray) -> bool:
    """After `given` ([R], parts may be negative) has gone from one rank to the other."""
    load, capacity = placement.load, placement.capacity
    return bool((load[rank] - given <= capacity[rank]).all() and (load[other] + given <= capacity[other]).all())


def _pairs(placement: Placement, ranks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """([sets, R] needs, [sets, 2] rows): every shard and every two shards of a rank that may go anywhere, PAIRED each."""
    free, every = placement.free, np.arange(PAIRED)
    rows = _movable(placement, _only(placement, ranks))
    rows = rows[free.home[rows] == NOWHERE]
    rows = rows[np.lexsort((rows, -free.need[rows, placement.resource], free.place[rows]))]
    place = free.place[rows]
    if not len(rows):
        return np.zeros((0, placement.load.shape[1])), np.zeros((0, 2), dtype=int)
    nth = np.arange(len(rows)) - np.searchsorted(place, place)  # its number on its rank
    rows, place = rows[nth < PAIRED], place[nth < PAIRED]
    partner = np.arange(len(rows))[:, None] + every[None, :]  # itself, and those after it
    valid = (partner < len(rows)) & (place[np.minimum(partner, len(rows) - 1)] == place[:, None])
    first, second = np.nonzero(valid)[0], partner[valid]
    need = free.need[rows[first]] + np.where((first != second)[:, None], free.need[rows[second]], 0.0)
    return need, np.stack([rows[first], rows[second]], axis=1)


def _ascending(values: np.ndarray, below: float, most: int = 64) -> Iterable[tuple[int, int]]:
    """(row, column) of the smallest entries below `below`, smallest first."""
    flat = values.ravel()
    good = np.flatnonzero(flat < below * LESS)
    if len(good) > most:
        good = good[np.argpartition(flat[good], most)[:most]]
    order = good[np.lexsort((good, flat[good]))]
    return ((int(at) // values.shape[1], int(at) % values.shape[1]) for at in order)


def _blocks_of_rank(placement: Placement, rank: int) -> tuple[int, np.ndarray]:
    """The host of a rank and the rows of single blocks on it, those that take most of the rank first."""
    size, blocks = placement.problem.host_size, placement.blocks
    rows = blocks.at(rank // size)
    # A bundle of several blocks, or of a block and shards tied to its host, moves only as a whole (_rechoose).
    alone = [
        len(placement.candidate(int(b)).blocks) == 1 and not len(placement.candidate(int(b)).free)
        for b in blocks.owner[rows]
    ]
    rows = rows[np.array(alone, dtype=bool)]
    taken = blocks.need[rows, rank % size, placement.resource]
    return rank // size, rows[np.argsort(-taken, kind="stable")][:RECHOSEN]


def _move_blocks(placement: Placement, rank: int) -> bool:
    """One block of the slowest rank's host to another host."""
    hosts, capacity, blocks = placement.by_host(placement.load), placement.by_host(placement.capacity), placement.blocks
    if rank // placement.problem.host_size >= len(hosts):
        return False
    here, rows = _blocks_of_rank(placement, rank)
    top, by = placement.cost[rank], placement.resource
    for row in rows:
        after = hosts + blocks.need[row]
        slowest = np.where((after <= capacity).all(axis=(1, 2)), after[..., by].max(axis=1), np.inf)
        slowest[here] = np.inf
        if slowest.min() < top * LESS and blocks.need[row, rank % placement.problem.host_size, by] > 0:
            placement.move_block(int(row), int(slowest.argmin()))
            return True
    return False


def _swap_blocks(placement: Placement, rank: int) -> bool:
    """One block of the slowest rank's host for one of another host."""
    hosts, capacity, blocks = placement.by_host(placement.load), placement.by_host(placement.capacity), placement.blocks
    if rank // placement.problem.host_size >= len(hosts):
        return False
    here, rows = _blocks_of_rank(placement, rank)
    fast = np.argsort(hosts[..., placement.resource].max(axis=1), kind="stable")[:PARTNERS]
    theirs = np.concatenate(
        [_blocks_of_rank(placement, int(h) * hosts.shape[1])[1] for h in fast if h != here] or [rows[:0]]
    )
    if not len(rows) or not len(theirs):
        return False
    top, by = placement.cost[rank], placement.resource
    there = blocks.place[theirs]
    for row in rows:
        difference = blocks.need[row] - blocks.need[theirs]  # [m, L, R]
        mine, other = hosts[here] - difference, hosts[there] + difference
        fits = (mine <= capacity[here]).all(axis=(1, 2)) & (other <= capacity[there]).all(axis=(1, 2))
        slowest = np.maximum(mine[..., by].max(axis=1), other[..., by].max(axis=1))
        slowest[~fits] = np.inf
        if slowest.min() < top * LESS:
            partner = int(slowest.argmin())
            placement.move_block(int(row), int(there[partner]))
            placement.move_block(int(theirs[partner]), here)
            return True
    return False


def _rechoose(placement: Placement, rank: int) -> bool:
    """Place one bundle of the slowest rank anew, as whatever candidate then loads the ranks least."""
    top, by = placement.cost[rank], placement.resource
    for bundle in bundles_at(placement, rank)[:RECHOSEN]:
        before, number, where = placement.cost.copy(), placement.chosen[bundle], placement.where(bundle)
        placement.remove(bundle)
        others_work = float(placement.cost.sum())
        best: tuple[float, float, int] | None = None
        for option, candidate in enumerate(placement.problem.candidates(bundle)):
            # A shard as long as the slowest rank, or work that would fill every rank, cannot help.
            work = float(candidate.total[by]) + others_work
            hopeless = candidate.peak[by] >= top * LESS or work >= top * len(placement.load)
            if not hopeless and placement.put(bundle, option):
                changed = placement.cost[placement.cost != before]
                slowest = max(changed.max(initial=0.0), placement.cost[rank])
                costs = (placement.cost.sum(), slowest)
                if slowest < top * LESS and (best is None or costs < best[:2]):
                    best = (*costs, option)
                placement.remove(bundle)
        if best is not None:
            placement.put(bundle, best[2])
            return True
        placement.put_at(bundle, number, *where)
    return False


def bundles_at(placement: Placement, rank: int) -> list[int]:
    """Bundles that take time of the rank, those that take most first."""
    taken: dict[int, float] = {}
    by = placement.resource
    for row in placement.free.at(rank):
        owner = int(placement.free.owner[row])
        taken[owner] = taken.get(owner, 0.0) + placement.free.need[row, by]
    host, local = divmod(rank, placement.problem.host_size)
    for row in placement.blocks.at(host):
        taken[int(placement.blocks.owner[row])] = placement.blocks.need[row, local, by]
    for bundle, number in enumerate(placement.chosen):
        if number != NOWHERE and placement.candidate(bundle).runs:
            taken[bundle] = taken.get(bundle, 0.0) + placement.candidate(bundle).everywhere[by]
    return sorted(taken, key=lambda bundle: (-taken[bundle], bundle))
