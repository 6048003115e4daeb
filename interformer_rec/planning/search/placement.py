"""Shards on ranks, with loads kept up to date. In: a PlacementProblem and candidates; out: a Placement that can be changed in place.

Nothing is copied or summed anew: adding, removing and moving a shard change one row of `load`. Free shards and host blocks
lie in flat arrays (slots), so that the local search looks at all of them at once. What the search makes small on the fullest rank
is one resource, `cost`: milliseconds, or bytes of a memory that is too small.
Legend as in space.py: W ranks, L ranks of a host, H hosts, R resources.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np

from interformer_rec.planning.search.candidate import PERF, Candidate
from interformer_rec.planning.search.space import PlacementProblem

NOWHERE = -1


@dataclass(frozen=True)
class Assignment:
    """A finished placement: for each bundle its candidate, the hosts of its blocks, the ranks of its free shards."""

    chosen: tuple[int, ...]
    hosts: tuple[tuple[int, ...], ...]
    ranks: tuple[tuple[int, ...], ...]
    perf: float  # milliseconds of the slowest rank


class Slots:
    """Rows of equal shape with an owner and a place, in arrays that grow; a removed row has place NOWHERE."""

    def __init__(self, *shape: int) -> None:
        self.need = np.zeros((64, *shape))
        self.place = np.full(64, NOWHERE)
        self.owner = np.full(64, NOWHERE)
        self.home = np.full(64, NOWHERE)  # the host it may not leave
        self.tied = np.zeros(64, dtype=bool)  # does not move alone: no two shards of its bundle may lie on one rank
        self.size = 0
        self._unused: list[int] = []

    def add(self, need: np.ndarray, place: int, owner: int, home: int = NOWHERE, tied: bool = False) -> int:
        """The new row's number."""
        if not self._unused and self.size == len(self.place):
            for name in ("need", "place", "owner", "home", "tied"):
                rows = getattr(self, name)
                setattr(self, name, np.concatenate([rows, np.zeros_like(rows)]))
        if self._unused:
            row = self._unused.pop()
        else:
            row, self.size = self.size, self.size + 1
        self.need[row], self.place[row], self.owner[row], self.home[row] = need, place, owner, home
        self.tied[row] = tied
        return row

    def copy(self) -> Slots:
        """With arrays of its own."""
        return copy.deepcopy(self)

    def drop(self, row: int) -> None:
        """Forget a row; its number may be used again."""
        self.place[row] = NOWHERE
        self._unused.append(row)

    def at(self, *places: int) -> np.ndarray:
        """Numbers of the rows at the places, ascending."""
        place = self.place[: self.size]
        mask = place == places[0]
        for other in places[1:]:
            mask |= place == other
        return np.flatnonzero(mask)


class Placement:
    """Which bundle is where, and what every rank carries."""

    def __init__(
        self, problem: PlacementProblem, scale: float = 1.0, memory_weight: float = 0.0, resource: int = PERF
    ) -> None:
        """`resource`: what counts as cost; `scale`: how much of it a rank is expected to take.

        `memory_weight` 0 puts a shard on the rank of least cost that has room, 1 on the emptiest.
        """
        self.problem, self.resource = problem, resource
        self.load = np.zeros_like(problem.capacity)  # [W, R]
        self.capacity = problem.capacity
        self.chosen = [NOWHERE] * len(problem.tables)
        resources = problem.capacity.shape[1]
        self.free = Slots(resources)  # place is a rank
        self.blocks = Slots(problem.host_size, resources)  # place is a host
        self._free_of: dict[int, list[int]] = {}
        self._blocks_of: dict[int, list[int]] = {}
        self._weight, self._scale = memory_weight, scale

    @property
    def cost(self) -> np.ndarray:
        """[W] what the search makes small: the load's column of `resource`."""
        return self.load[:, self.resource]

    @property
    def most(self) -> float:
        """Cost of the rank that has most."""
        return float(self.cost.max())

    def candidate(self, bundle: int) -> Candidate:
        """What the bundle is now."""
        return self.problem.candidates(bundle)[self.chosen[bundle]]

    def by_host(self, table: np.ndarray) -> np.ndarray:
        """[W, R] -> [H, L, R], a view: ranks of a host follow each other."""
        hosts, size = self.problem.hosts, self.problem.host_size
        return table[: hosts * size].reshape(hosts, size, table.shape[1])

    def put(self, bundle: int, number: int) -> bool:
        """Place the bundle as its candidate `number` where it costs least. False, and nothing changed, if it does not fit."""
        candidate = self.problem.candidates(bundle)[number]
        uniform = candidate.uniform
        if uniform is not None:
            if (self.load + uniform > self.capacity).any():
                return False
            self.load += uniform
        self.chosen[bundle] = number
        self._free_of[bundle], self._blocks_of[bundle] = [], []
        if not (self._put_blocks(bundle, candidate) and self._put_free(bundle, candidate)):
            self.remove(bundle)
            return False
        return True

    def put_any(self, bundle: int, number: int) -> bool:
        """Place the bundle as its candidate `number`, or as the first other one that fits; False if none does."""
        others = [n for n in range(len(self.problem.candidates(bundle))) if n != number]
        return any(self.put(bundle, option) for option in [number, *others])

    def put_at(self, bundle: int, number: int, hosts: tuple[int, ...], ranks: tuple[int, ...]) -> None:
        """Place the bundle exactly there, which must be a place that once held it."""
        candidate = self.problem.candidates(bundle)[number]
        uniform = candidate.uniform
        if uniform is not None:
            self.load += uniform
        self.chosen[bundle] = number
        self._free_of[bundle], self._blocks_of[bundle] = [], []
        for block, host in zip(candidate.blocks, hosts, strict=True):
            self._hold_block(bundle, block, host)
        for need, rank in zip(candidate.free, ranks, strict=True):
            self._hold(bundle, candidate, need, rank)

    def remove(self, bundle: int) -> None:
        """Take the bundle off all ranks."""
        uniform = self.candidate(bundle).uniform
        if uniform is not None:
            self.load -= uniform
        for row in self._free_of.pop(bundle, []):
            self.load[self.free.place[row]] -= self.free.need[row]
            self.free.drop(row)
        for row in self._blocks_of.pop(bundle, []):
            self.by_host(self.load)[self.blocks.place[row]] -= self.blocks.need[row]
            self.blocks.drop(row)
        self.chosen[bundle] = NOWHERE

    def move(self, row: int, rank: int) -> None:
        """A free shard to another rank."""
        self.load[self.free.place[row]] -= self.free.need[row]
        self.load[rank] += self.free.need[row]
        self.free.place[row] = rank

    def move_block(self, row: int, host: int) -> None:
        """A block to another host."""
        hosts = self.by_host(self.load)
        hosts[self.blocks.place[row]] -= self.blocks.need[row]
        hosts[host] += self.blocks.need[row]
        self.blocks.place[row] = host

    def where(self, bundle: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Hosts of the bundle's blocks, ranks of its free shards."""
        hosts = tuple(int(self.blocks.place[row]) for row in self._blocks_of[bundle])
        return hosts, tuple(int(self.free.place[row]) for row in self._free_of[bundle])

    def assignment(self) -> Assignment:
        """The placement as it is now; every bundle must be placed."""
        placed = [self.where(bundle) for bundle in range(len(self.chosen))]
        perf = float(self.load[:, PERF].max())
        return Assignment(tuple(self.chosen), tuple(h for h, _ in placed), tuple(r for _, r in placed), perf)

    def restore(self, kept: Assignment) -> None:
        """Back to an assignment; loads are summed anew, so rounding does not build up."""
        for bundle, number in enumerate(self.chosen):
            if number != NOWHERE:
                self.remove(bundle)
        self.load[:] = 0.0
        for bundle, number in enumerate(kept.chosen):
            self.put_at(bundle, number, kept.hosts[bundle], kept.ranks[bundle])

    def snapshot(self) -> tuple[object, ...]:
        """What rollback needs; some copies of arrays."""
        slots = [slot.copy() for slot in (self.free, self.blocks)]
        # The lists of rows are made anew by every put and never changed afterwards.
        return self.load.copy(), list(self.chosen), *slots, dict(self._free_of), dict(self._blocks_of)

    def rollback(self, kept: tuple[object, ...]) -> None:
        """Back to a snapshot, which must not be used again."""
        self.load, self.chosen, self.free, self.blocks, self._free_of, self._blocks_of = kept  # type: ignore[assignment]

    def _hold(self, bundle: int, candidate: Candidate, need: np.ndarray, rank: int) -> None:
        home = rank // self.problem.host_size if candidate.same_host else NOWHERE
        self.load[rank] += need
        self._free_of[bundle].append(self.free.add(need, rank, bundle, home, candidate.distinct))

    def _hold_block(self, bundle: int, block: np.ndarray, host: int) -> None:
        self.by_host(self.load)[host] += block
        self._blocks_of[bundle].append(self.blocks.add(block, host, bundle))

    def _cost_of(self, load: np.ndarray, need: np.ndarray) -> np.ndarray:
        """[..., R] loads -> [...] cost of adding `need`, infinite where it does not fit; `capacity` has load's shape."""
        after = load + need
        capacity = self.capacity if after.ndim == 2 else self.by_host(self.capacity)
        cost = after[..., self.resource] / self._scale
        if self._weight:
            filled = (after[..., 1:] / np.maximum(capacity[..., 1:], 1.0)).max(axis=-1)
            cost = (1 - self._weight) * cost + self._weight * filled
        return np.where((after <= capacity).all(axis=-1), cost, np.inf)

    def _put_blocks(self, bundle: int, candidate: Candidate) -> bool:
        if not len(candidate.blocks) or (candidate.same_host and len(candidate.free)):
            return True  # a block with free shards beside it goes with them
        used: set[int] = set()
        for block in candidate.blocks:
            cost = self._cost_of(self.by_host(self.load), block).max(axis=1)
            if len(used) < self.problem.hosts:  # like upstream, twice on one host only when there are too few
                cost[list(used)] = np.inf
            host = int(cost.argmin())
            if np.isinf(cost[host]):
                return False
            used.add(host)
            self._hold_block(bundle, block, host)
        return True

    def _put_free(self, bundle: int, candidate: Candidate) -> bool:
        if not len(candidate.free):
            return True
        ranks = self._ranks_on_a_host(candidate) if candidate.same_host else self._ranks_anywhere(candidate)
        if ranks is None:
            return False
        if candidate.same_host and len(candidate.blocks):
            self._hold_block(bundle, candidate.blocks[0], ranks[0] // self.problem.host_size)
        for need, rank in zip(candidate.free, ranks, strict=True):
            self._hold(bundle, candidate, need, rank)
        return True

    def _ranks_anywhere(self, candidate: Candidate) -> list[int] | None:
        ranks = [NOWHERE] * len(candidate.free)
        load = self.load if len(ranks) == 1 else self.load.copy()
        for shard in np.argsort(-candidate.free[:, self.resource], kind="stable").tolist():
            cost = self._cost_of(load, candidate.free[shard])
            if candidate.distinct:
                cost[[rank for rank in ranks if rank != NOWHERE]] = np.inf
            ranks[shard] = int(cost.argmin())
            if np.isinf(cost[ranks[shard]]):
                return None
            if len(ranks) > 1:
                load[ranks[shard]] += candidate.free[shard]
        return ranks

    def _ranks_on_a_host(self, candidate: Candidate) -> list[int] | None:
        """All hosts are tried at once: [H, L] costs, one shard after the other."""
        load = self.by_host(self.load) + (candidate.blocks[0] if len(candidate.blocks) else 0.0)  # a copy
        every = np.arange(len(load))
        nothing = np.zeros(self.load.shape[1])
        worst = self._cost_of(load, nothing).max(axis=1) if len(candidate.blocks) else np.zeros(len(load))
        local = np.zeros((len(candidate.free), len(load)), dtype=int)
        for shard in np.argsort(-candidate.free[:, self.resource], kind="stable").tolist():
            cost = self._cost_of(load, candidate.free[shard])
            local[shard] = cost.argmin(axis=1)
            worst = np.maximum(worst, cost[every, local[shard]])
            load[every, local[shard]] += candidate.free[shard]
        if not len(load) or np.isinf(worst.min()):
            return None
        host = int(worst.argmin())
        return [host * self.problem.host_size + int(rank) for rank in local[:, host]]
