"""The search's view of a search space. In: TorchRec ShardingOptions and a topology; out: a Problem of arrays.

Legend: W ranks, L ranks of a host (TorchRec's intra group), H hosts, R resources: milliseconds, then bytes of HBM, DDR, SSD.
Tables with equal estimates share a Kind; options that another one beats in everything are dropped here, never later.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.planner.types import PartitionByType, Shard, ShardingOption, Topology
from torchrec.distributed.types import ShardingType

from interformer_rec.planning.enumerate import ShardRuns
from interformer_rec.planning.search_errors import no_option_fits

PERF, HBM, DDR, SSD = range(4)
RESOURCES = ("perf", "hbm", "ddr", "ssd")
MAX_COMBINATIONS = 64  # of options of tables that depend on each other

Runs = tuple[tuple[int, tuple[float, float, float, float]], ...]  # (how many shards, what one needs)


@dataclass(frozen=True)
class Part:
    """What one table puts into a Candidate: its option, and which rows of the candidate's arrays are its shards."""

    option: int  # of the table's options in canonical order
    place: str  # uniform: shard i on rank i; block: rows of L shards, one host each; free: one rank each
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way to shard one table, or several that depend on each other."""

    parts: tuple[Part, ...]
    runs: Runs  # uniform shards, in rank order; empty without
    blocks: np.ndarray  # [blocks, L, R]: row i of a block on local rank i of the block's host
    free: np.ndarray  # [shards, R]
    same_host: bool  # free shards on one host, that of the block if there is one
    distinct: bool  # no two free shards on one rank

    @cached_property
    def uniform(self) -> np.ndarray | None:
        """[W, R], or None where no table of the candidate is on every rank."""
        if not self.runs:
            return None
        return np.repeat(np.array([need for _, need in self.runs]), [count for count, _ in self.runs], axis=0)

    @cached_property
    def total(self) -> np.ndarray:
        """[R]: sum over shards."""
        uniform = sum((count * np.array(need) for count, need in self.runs), np.zeros(4))
        return uniform + self.blocks.sum(axis=(0, 1)) + self.free.sum(axis=0)

    @cached_property
    def largest(self) -> np.ndarray:
        """[R]: the most that a rank must take at once."""
        peaks = [np.array(need) for _, need in self.runs]
        return np.max([*peaks, *self.blocks.reshape(-1, 4), *self.free, np.zeros(4)], axis=0)

    @cached_property
    def peak(self) -> tuple[float, ...]:
        """`largest` as plain numbers: many are compared one by one."""
        return tuple(self.largest.tolist())

    @cached_property
    def work(self) -> float:
        """Milliseconds summed over shards."""
        return float(self.total[PERF])

    @cached_property
    def floor(self) -> float:
        """Milliseconds that every rank spends on it, wherever its shards lie."""
        return min((need[PERF] for _, need in self.runs), default=0.0)

    @cached_property
    def shards(self) -> tuple[np.ndarray, np.ndarray]:
        """Milliseconds of each distinct shard, and how many there are of it."""
        single = [*self.blocks[..., PERF].ravel(), *self.free[:, PERF]]
        perf = np.array([need[PERF] for _, need in self.runs] + single)
        return perf, np.array([count for count, _ in self.runs] + [1] * len(single), dtype=float)


@dataclass(frozen=True, eq=False)
class Kind:
    """Bundles with equal candidates."""

    candidates: tuple[Candidate, ...]
    bundles: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Problem:
    """What to place, where, and how much there is room for. A bundle is a table, or tables that depend on each other."""

    kinds: tuple[Kind, ...]
    kind_of: tuple[int, ...]  # bundle -> kind
    tables: tuple[
        tuple[list[ShardingOption], ...], ...
    ]  # bundle -> for each of its tables the options, canonical order
    capacity: np.ndarray  # [W, R], infinite milliseconds
    host_size: int  # L
    options_before: int
    options_after: int

    @property
    def world_size(self) -> int:
        """W."""
        return len(self.capacity)

    @property
    def hosts(self) -> int:
        """H; ranks beyond the last full host hold no host-wise shards."""
        return self.world_size // self.host_size

    def candidates(self, bundle: int) -> tuple[Candidate, ...]:
        """What a bundle may become."""
        return self.kinds[self.kind_of[bundle]].candidates


def build_problem(space: Sequence[ShardingOption], topology: Topology) -> Problem:
    """Group, translate and prune. Raises NoPlan for a table that fits nowhere, whatever its option."""
    capacity = np.array([[np.inf, d.storage.hbm, d.storage.ddr, d.storage.ssd] for d in topology.devices], dtype=float)
    host_size = topology.intra_group_size
    bundles: dict[str, dict[str, list[ShardingOption]]] = {}
    for option in space:
        bundles.setdefault(option.dependency or option.fqn, {}).setdefault(option.fqn, []).append(option)
    kinds: dict[object, tuple[tuple[Candidate, ...], list[int]]] = {}
    tables, before = [], 0
    for number, bundle in enumerate(bundles.values()):
        # Upstream's order of options follows string hashes; ours must not, or no two runs would agree.
        of_tables = tuple(sorted(options, key=_canonical) for options in bundle.values())
        before += sum(map(len, of_tables))
        runs = [[_runs(option.shards) for option in options] for options in of_tables]
        key = tuple(
            tuple((o.sharding_type, o.compute_kernel, r) for o, r in zip(options, run, strict=True))
            for options, run in zip(of_tables, runs, strict=True)
        )
        if key not in kinds:
            kinds[key] = (_candidates(of_tables, runs, capacity, host_size), [])
        kinds[key][1].append(number)
        tables.append(of_tables)
    kind_of = {bundle: kind for kind, (_, members) in enumerate(kinds.values()) for bundle in members}
    return Problem(
        kinds=tuple(Kind(candidates, tuple(members)) for candidates, members in kinds.values()),
        kind_of=tuple(kind_of[number] for number in range(len(tables))),
        tables=tuple(tables),
        capacity=capacity,
        host_size=host_size,
        options_before=before,
        options_after=sum(len(candidates) * len(members) for candidates, members in kinds.values()),
    )


def _canonical(option: ShardingOption) -> tuple[int, str, str]:
    # Of options that come to the same, the first stays: one shard is called table-wise, not column-wise.
    return option.sharding_type != ShardingType.TABLE_WISE.value, option.sharding_type, option.compute_kernel


def _runs(shards: Sequence[Shard]) -> Runs:
    if isinstance(shards, ShardRuns):
        return tuple((count, _need(shard)) for count, shard in shards.runs)
    return tuple((len(list(same)), need) for need, same in itertools.groupby(map(_need, shards)))


def _need(shard: Shard) -> tuple[float, float, float, float]:
    assert shard.perf is not None and shard.storage is not None, "the space must carry estimates"
    return shard.perf.total, float(shard.storage.hbm), float(shard.storage.ddr), float(shard.storage.ssd)


def _candidates(
    of_tables: tuple[list[ShardingOption], ...], runs: list[list[Runs]], capacity: np.ndarray, host_size: int
) -> tuple[Candidate, ...]:
    """The candidates of a bundle: one per option, or per combination where several tables depend on each other."""
    world_size = len(capacity)
    per_table: list[list[Candidate]] = []
    for options, of_options in zip(of_tables, runs, strict=True):
        made = [
            _candidate(i, o, r, world_size, host_size) for i, (o, r) in enumerate(zip(options, of_options, strict=True))
        ]
        legal = [c for c in made if c is not None and (len(of_tables) == 1 or c.same_host or c.runs)]
        fitting = [c for c in legal if fits_alone(c, capacity, host_size)]
        if not fitting:
            raise no_option_fits(options, capacity)
        per_table.append(undominated(fitting))
    if len(per_table) == 1:
        return tuple(per_table[0])
    joined = [_join(combination) for combination in itertools.islice(itertools.product(*per_table), MAX_COMBINATIONS)]
    fitting = [c for c in joined if fits_alone(c, capacity, host_size)]
    if not fitting:
        raise no_option_fits([option for options in of_tables for option in options], capacity)
    return tuple(undominated(fitting))


def _candidate(number: int, option: ShardingOption, runs: Runs, world_size: int, host_size: int) -> Candidate | None:
    """None where the shards do not fit the ranks or hosts by number, which upstream calls unpartitionable."""
    count = sum(n for n, _ in runs)
    nothing, no_blocks = np.zeros((0, 4)), np.zeros((0, host_size, 4))
    place = option.partition_by
    if place == PartitionByType.UNIFORM.value:
        if count != world_size:
            return None
        return Candidate((Part(number, "uniform", 0, count),), runs, no_blocks, nothing, False, False)
    needs = np.repeat(np.array([need for _, need in runs]), [n for n, _ in runs], axis=0)
    whole_host = option.sharding_type in (ShardingType.TABLE_ROW_WISE.value, ShardingType.GRID_SHARD.value)
    if whole_host:
        several = place == PartitionByType.MULTI_HOST.value
        if count % host_size or (count != host_size and not several) or world_size < host_size:
            return None
        blocks = needs.reshape(-1, host_size, 4)
        return Candidate((Part(number, "block", 0, len(blocks)),), (), blocks, nothing, not several, False)
    distinct = (
        option.compute_kernel == EmbeddingComputeKernel.KEY_VALUE.value
        and option.sharding_type == ShardingType.COLUMN_WISE.value
    )
    if distinct and count > world_size:
        return None
    same_host = place == PartitionByType.HOST.value
    return Candidate((Part(number, "free", 0, count),), (), no_blocks, needs, same_host, distinct)


def _join(candidates: Iterable[Candidate]) -> Candidate:
    """One candidate of several tables: uniform shards added up, blocks added up (they share the host), free ones in a row."""
    parts: list[Part] = []
    uniform: np.ndarray | float = 0.0
    blocks: list[np.ndarray] = []
    free: list[np.ndarray] = []
    host_size, rows = 0, 0
    for candidate in candidates:
        (part,) = candidate.parts
        host_size = candidate.blocks.shape[1]
        if candidate.uniform is not None:
            uniform = uniform + candidate.uniform
        blocks.extend(candidate.blocks)
        free.extend(candidate.free)
        parts.append(Part(part.option, part.place, rows, rows + len(candidate.free)) if part.place == "free" else part)
        rows += len(candidate.free)
    runs = tuple((1, tuple(row)) for row in uniform) if isinstance(uniform, np.ndarray) else ()
    block = np.sum(blocks, axis=0)[None] if blocks else np.zeros((0, host_size, 4))
    return Candidate(tuple(parts), runs, block, np.array(free).reshape(-1, 4), True, False)


def fits_alone(candidate: Candidate, capacity: np.ndarray, host_size: int) -> bool:
    """Could the candidate be placed if it were the only one?"""
    uniform = candidate.uniform
    room = capacity if uniform is None else capacity - uniform
    if (uniform is not None and (room < 0).any()) or (candidate.total > capacity.clip(min=0).sum(axis=0)).any():
        return False
    hosts = room[: len(room) // host_size * host_size].reshape(-1, host_size, room.shape[1])
    each = all((hosts >= block).all(axis=(1, 2)).any() for block in candidate.blocks)
    return each and all((room >= shard).all(axis=1).any() for shard in candidate.free)


def undominated(candidates: list[Candidate]) -> list[Candidate]:
    """Without those that another one replaces in any plan, at no cost in time or memory; of equals the first stays."""
    kept: list[Candidate] = []
    for i, candidate in enumerate(candidates):
        others = ((j, other) for j, other in enumerate(candidates) if j != i)
        if not any(_replaces(o, candidate) and (j < i or not _replaces(candidate, o)) for j, o in others):
            kept.append(candidate)
    return kept


def _replaces(one: Candidate, other: Candidate) -> bool:
    """May `one` stand wherever `other` stands? Its shards must be no larger and at least as free to move."""
    if any(mine > theirs for mine, theirs in zip(one.peak, other.peak, strict=True)):
        return False
    if one.runs or len(one.blocks):
        alike = len(one.runs) == len(other.runs) and one.blocks.shape == other.blocks.shape and not len(one.free)
        counts = [n for n, _ in one.runs] == [n for n, _ in other.runs]
        smaller = all((np.array(a) <= np.array(b)).all() for (_, a), (_, b) in zip(one.runs, other.runs, strict=False))
        return alike and counts and not len(other.free) and smaller and bool((one.blocks <= other.blocks).all())
    if (one.same_host and not (other.same_host or len(other.free) == 1)) or (one.distinct and not other.distinct):
        return False
    if len(one.free) == 1:  # one shard may stand for any shard of the other
        theirs = np.array([need for _, need in other.runs] + [*other.blocks.reshape(-1, 4), *other.free]).reshape(-1, 4)
        return bool((one.free[0] <= theirs).all(axis=1).any()) and not one.same_host
    alike = one.free.shape == other.free.shape and not other.runs and not len(other.blocks)
    return alike and bool((one.free <= other.free).all())
