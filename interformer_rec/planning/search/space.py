"""The search's view of a search space. In: TorchRec ShardingOptions and a topology; out: a PlacementProblem of arrays.

Legend: W ranks, L ranks of a host (TorchRec's intra group), H hosts, R resources: milliseconds, bytes of HBM, DDR, SSD, passes.
A pass is how a table is kept on some ranks: each of its shards needs one of its group, of which other ranks have none. So
placing, local search and solver need no rule of their own for groups. Tables with equal estimates share a Kind; options that
another one beats in everything are dropped here, never later.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.planner.types import PartitionByType, Shard, ShardingOption, Topology
from torchrec.distributed.types import ShardingType

from interformer_rec.planning.search.candidate import Candidate, Runs, TablePart, fits_alone, join, undominated
from interformer_rec.planning.search.errors import no_option_fits
from interformer_rec.planning.search.options import ShardRuns
from interformer_rec.planning.search.rank_groups import RankGroup

MAX_COMBINATIONS = 64  # of options of tables that depend on each other


@dataclass(frozen=True, eq=False)
class Kind:
    """Bundles with equal candidates."""

    candidates: tuple[Candidate, ...]
    bundles: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class PlacementProblem:
    """What to place, where, and how much there is room for. A bundle is a table, or tables that depend on each other."""

    kinds: tuple[Kind, ...]
    kind_of: tuple[int, ...]  # bundle -> kind
    # bundle -> for each of its tables the options, canonical order
    tables: tuple[tuple[list[ShardingOption], ...], ...]
    capacity: np.ndarray  # [W, R], infinite milliseconds
    groups: tuple[RankGroup, ...]  # of passes: resource PASS + i is that of group i
    host_size: int  # L

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


def build_problem(
    space: Sequence[ShardingOption], topology: Topology, groups: Mapping[str, RankGroup] | None = None
) -> PlacementProblem:
    """Group, translate and prune. `groups`: table -> the ranks it has to stay on; others may lie anywhere.

    Raises NoPlan for a table that fits nowhere, whatever its option.
    """
    confined = groups or {}
    different = tuple(dict.fromkeys(confined.values()))
    capacity = np.array([[np.inf, d.storage.hbm, d.storage.ddr, d.storage.ssd] for d in topology.devices], dtype=float)
    passes = np.zeros((len(capacity), len(different)))
    for number, group in enumerate(different):
        passes[list(group.ranks), number] = np.inf
    capacity = np.hstack([capacity, passes])
    host_size = topology.intra_group_size
    bundles: dict[str, dict[str, list[ShardingOption]]] = {}
    for option in space:
        bundles.setdefault(option.dependency or option.fqn, {}).setdefault(option.fqn, []).append(option)
    kinds: dict[object, tuple[tuple[Candidate, ...], list[int]]] = {}
    tables = []
    for number, bundle in enumerate(bundles.values()):
        # Upstream's order of options follows string hashes; ours must not, or no two runs would agree.
        of_tables = tuple(sorted(options, key=_canonical) for options in bundle.values())
        runs = [[_runs(o.shards, _passes(confined.get(o.name), different)) for o in options] for options in of_tables]
        key = tuple(
            tuple((o.sharding_type, o.compute_kernel, r) for o, r in zip(options, run, strict=True))
            for options, run in zip(of_tables, runs, strict=True)
        )
        if key not in kinds:
            kinds[key] = (_candidates(of_tables, runs, capacity, host_size, confined), [])
        kinds[key][1].append(number)
        tables.append(of_tables)
    kind_of = {bundle: kind for kind, (_, members) in enumerate(kinds.values()) for bundle in members}
    return PlacementProblem(
        kinds=tuple(Kind(candidates, tuple(members)) for candidates, members in kinds.values()),
        kind_of=tuple(kind_of[number] for number in range(len(tables))),
        tables=tuple(tables),
        capacity=capacity,
        groups=different,
        host_size=host_size,
    )


def _canonical(option: ShardingOption) -> tuple[int, str, str]:
    # Of options that come to the same, the first stays: one shard is called table-wise, not column-wise.
    return option.sharding_type != ShardingType.TABLE_WISE.value, option.sharding_type, option.compute_kernel


def _passes(group: RankGroup | None, groups: Sequence[RankGroup]) -> tuple[float, ...]:
    return tuple(float(group == other) for other in groups)


def _runs(shards: Sequence[Shard], passes: tuple[float, ...]) -> Runs:
    if isinstance(shards, ShardRuns):
        return tuple((count, _need(shard) + passes) for count, shard in shards.runs)
    return tuple((len(list(same)), need + passes) for need, same in itertools.groupby(map(_need, shards)))


def _need(shard: Shard) -> tuple[float, float, float, float]:
    assert shard.perf is not None and shard.storage is not None, "the space must carry estimates"
    return shard.perf.total, float(shard.storage.hbm), float(shard.storage.ddr), float(shard.storage.ssd)


def _candidates(
    of_tables: tuple[list[ShardingOption], ...],
    runs: list[list[Runs]],
    capacity: np.ndarray,
    host_size: int,
    groups: Mapping[str, RankGroup],
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
            raise no_option_fits(options, capacity, groups.get(options[0].name))
        per_table.append(undominated(fitting))
    if len(per_table) == 1:
        return tuple(per_table[0])
    joined = [join(combination) for combination in itertools.islice(itertools.product(*per_table), MAX_COMBINATIONS)]
    fitting = [c for c in joined if fits_alone(c, capacity, host_size)]
    if not fitting:
        every = [option for options in of_tables for option in options]
        raise no_option_fits(every, capacity, groups.get(every[0].name))
    return tuple(undominated(fitting))


def _candidate(number: int, option: ShardingOption, runs: Runs, world_size: int, host_size: int) -> Candidate | None:
    """None where the shards do not fit the ranks or hosts by number, which upstream calls unpartitionable."""
    count = sum(n for n, _ in runs)
    resources = len(runs[0][1])
    nothing, no_blocks = np.zeros((0, resources)), np.zeros((0, host_size, resources))
    place = option.partition_by
    if place == PartitionByType.UNIFORM.value:
        if count != world_size:
            return None
        return Candidate((TablePart(number, "uniform", 0, count),), runs, no_blocks, nothing, False, False)
    needs = np.repeat(np.array([need for _, need in runs]), [n for n, _ in runs], axis=0)
    whole_host = option.sharding_type in (ShardingType.TABLE_ROW_WISE.value, ShardingType.GRID_SHARD.value)
    if whole_host:
        several = place == PartitionByType.MULTI_HOST.value
        if count % host_size or (count != host_size and not several) or world_size < host_size:
            return None
        blocks = needs.reshape(-1, host_size, resources)
        return Candidate((TablePart(number, "block", 0, len(blocks)),), (), blocks, nothing, not several, False)
    distinct = (
        option.compute_kernel == EmbeddingComputeKernel.KEY_VALUE.value
        and option.sharding_type == ShardingType.COLUMN_WISE.value
    )
    if distinct and count > world_size:
        return None
    same_host = place == PartitionByType.HOST.value
    return Candidate((TablePart(number, "free", 0, count),), (), no_blocks, needs, same_host, distinct)
