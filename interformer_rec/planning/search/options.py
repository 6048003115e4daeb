"""Every way to shard every table, quickly. In: a model with tables on meta, sharders, a topology; out: TorchRec ShardingOptions.

TorchRec's EmbeddingEnumerator makes and estimates one Shard object per rank and option: for 2,000 tables on 1,024 ranks
eight million of them. Here TorchRec still decides which options a table has and what a shard costs, but identical tables are
enumerated once, and equal shards of an option are estimated once and kept as runs. The numbers are the same.
"""

from __future__ import annotations

import copy
import gc
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast, overload

import numpy as np
from torch import nn
from torchrec.distributed.planner import ParameterConstraints
from torchrec.distributed.planner.constants import DEFAULT_PERF_ESTIMATOR
from torchrec.distributed.planner.enumerators import EmbeddingEnumerator
from torchrec.distributed.planner.estimator.estimator import EmbeddingPerfEstimator, EmbeddingPerfEstimatorFactory
from torchrec.distributed.planner.shard_estimators import EmbeddingStorageEstimator
from torchrec.distributed.planner.types import Shard, ShardEstimator, ShardingOption, Topology
from torchrec.distributed.types import ModuleSharder
from torchrec.modules.embedding_configs import BaseEmbeddingConfig
from torchrec.modules.embedding_modules import EmbeddingBagCollection, EmbeddingCollection

CHUNK_SHARDS = 1 << 15  # Shard objects that upstream may hold at once, about 12 MB


class ShardRuns(Sequence[Shard]):
    """An option's shards, equal neighbours kept once: reads like the list of Shards that TorchRec keeps.

    Every read makes a new Shard, so a rank cannot be written here; `search` returns options with plain lists.
    """

    __slots__ = ("_offsets", "runs")

    def __init__(self, runs: Sequence[tuple[int, Shard]], offsets: np.ndarray) -> None:
        """`runs`: (how many, one of them with size, storage and perf); `offsets`: [shards, 2] rows and columns."""
        self.runs = tuple(runs)
        self._offsets = offsets

    def __len__(self) -> int:
        return len(self._offsets)

    def __iter__(self) -> Iterator[Shard]:
        each = itertools.chain.from_iterable(itertools.repeat(shard, count) for count, shard in self.runs)
        for shard, offset in zip(each, self._offsets.tolist(), strict=True):
            yield Shard(size=list(shard.size), offset=offset, storage=shard.storage, perf=shard.perf)

    @overload
    def __getitem__(self, index: int) -> Shard: ...
    @overload
    def __getitem__(self, index: slice) -> list[Shard]: ...
    def __getitem__(self, index: int | slice) -> Shard | list[Shard]:
        return list(self)[index]

    def __deepcopy__(self, memo: object) -> ShardRuns:
        return self  # nothing in it is ever written


def enumerate_grouped(
    module: nn.Module,
    sharders: list[ModuleSharder[nn.Module]],
    topology: Topology,
    batch_size: int,
    constraints: dict[str, ParameterConstraints] | None = None,
    estimates: bool = True,
) -> list[ShardingOption]:
    """The search space of `module`: for each table every option that TorchRec's default enumerator gives, estimated.

    As EmbeddingEnumerator(topology, batch_size, constraints).enumerate(module, sharders), with two differences: the
    options' `shards` are ShardRuns, and a table's options are ordered by sharding type and kernel (upstream's order follows
    Python's string hashes and changes between processes). Storage is in bytes, perf in milliseconds; without `estimates` the
    shards have none yet, for callers that make their own.
    Raises RuntimeError, as TorchRec does, where a constraint leaves a table without an option.
    """
    groups = _Groups(constraints or {})
    step = max(1, CHUNK_SHARDS // (4 * topology.world_size))
    estimators = _estimators(topology, constraints) if estimates else [_NoEstimate(topology, constraints)]
    found: dict[tuple[str, str], list[ShardingOption]] = {}
    with _collector_paused():
        for start in itertools.count(0, step):
            enumerator = _RunEnumerator(topology, batch_size, constraints, estimator=estimators)
            chunk = [groups.part(sharder, start, start + step) for sharder in sharders]
            enumerator.enumerate(module, chunk)
            for option in enumerator.taken:
                found.setdefault((option.path, option.name), []).append(option)
            if start + step >= groups.most:
                return groups.expand(found)
    raise AssertionError("unreachable: count() does not end")


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Millions of short-lived Shards would make Python walk all of torch's objects again and again: half the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _estimators(topology: Topology, constraints: dict[str, ParameterConstraints] | None) -> list[ShardEstimator]:
    """Upstream's default estimators, without their search for annotated methods: five dir(config) a shard, half the time."""
    perf = EmbeddingPerfEstimatorFactory.create(DEFAULT_PERF_ESTIMATOR, topology=topology, constraints=constraints)
    public = {name: getattr(perf.config, name) for name in dir(perf.config) if not name.startswith("_")}
    # An annotation is an attribute of a method: methods without attributes of their own carry none.
    annotated = [name for name, value in public.items() if callable(value) and getattr(value, "__dict__", None)]
    quick = type(type(perf.config).__name__, (type(perf.config),), {"__dir__": lambda self: annotated})
    return [
        EmbeddingPerfEstimator(topology=topology, constraints=constraints, config=quick()),
        EmbeddingStorageEstimator(topology=topology, constraints=constraints),
    ]


class _NoEstimate(ShardEstimator):
    """Leaves shards as they are. Upstream takes an empty list of estimators for none given, and makes its own."""

    def __init__(self, topology: Topology, constraints: dict[str, ParameterConstraints] | None = None) -> None:
        pass

    def estimate(self, sharding_options: list[ShardingOption], sharder_data_map: Any) -> None:
        """Nothing."""


class _RunEnumerator(EmbeddingEnumerator):
    """Upstream's enumerator, which estimates equal shards of an option once. The options are in `taken`, not in its answer."""

    taken: Sequence[ShardingOption] = ()

    def populate_estimates(self, sharding_options: list[ShardingOption]) -> None:
        """In: options with a list of Shards; they leave with estimated ShardRuns."""
        layouts: dict[tuple[str, str, str], tuple[list[int], list[list[int]], np.ndarray]] = {}
        for option in sharding_options:
            key = (option.path, option.name, option.sharding_type)  # kernels share a layout
            if key not in layouts:
                sizes = [(len(list(same)), list(size)) for size, same in itertools.groupby(map(_size, option.shards))]
                offsets = np.array([shard.offset for shard in option.shards], dtype=np.int64)
                layouts[key] = ([n for n, _ in sizes], [size for _, size in sizes], offsets)
            option.shards = [Shard(size=size, offset=[0, 0]) for size in layouts[key][1]]
        super().populate_estimates(sharding_options)
        for option in sharding_options:
            counts, _, offsets = layouts[(option.path, option.name, option.sharding_type)]
            runs = ShardRuns(list(zip(counts, option.shards, strict=True)), offsets)
            option.shards = cast("list[Shard]", runs)
        # Upstream keeps a deep copy of its list for the next call, of which there is none: a quarter of the time.
        self.taken = list(sharding_options)
        sharding_options.clear()


def _size(shard: Shard) -> tuple[int, ...]:
    return tuple(shard.size)


class _Groups:
    """Which tables of a module are alike, found while upstream asks the sharders for their parameters."""

    def __init__(self, constraints: Mapping[str, ParameterConstraints]) -> None:
        self._constraints = constraints
        self._members: dict[int, dict[str, list[tuple[str, nn.Parameter]]]] = {}  # id(module) -> first's name -> alike
        self._names: dict[int, list[str]] = {}  # id(module) -> its tables in order
        self.most = 0  # representatives in the module that has most

    def part(self, sharder: ModuleSharder[nn.Module], start: int, stop: int) -> ModuleSharder[nn.Module]:
        """The sharder, showing only representatives start..stop of each module."""

        def shardable_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
            members = self._members.get(id(module))
            if members is None:
                parameters = sharder.shardable_parameters(module)
                members = self._members[id(module)] = self._group(module, parameters)
                self._names[id(module)] = list(parameters)
                self.most = max(self.most, len(members))
            return {name: alike[0][1] for name, alike in list(members.items())[start:stop]}

        shown = copy.copy(sharder)  # of the same class: upstream asks for it
        cast(Any, shown).shardable_parameters = shardable_parameters
        return shown

    def _group(
        self, module: nn.Module, parameters: Mapping[str, nn.Parameter]
    ) -> dict[str, list[tuple[str, nn.Parameter]]]:
        configs: dict[str, BaseEmbeddingConfig] = {}
        # Other modules (towers, feature processors, managed collisions) give tables a meaning by name: never alike.
        if type(module) is EmbeddingBagCollection:
            configs = {config.name: config for config in cast(EmbeddingBagCollection, module).embedding_bag_configs()}
        elif type(module) is EmbeddingCollection:
            configs = {config.name: config for config in cast(EmbeddingCollection, module).embedding_configs()}
        alike: dict[object, list[tuple[str, nn.Parameter]]] = {}
        for name, parameter in parameters.items():
            key: object = name
            if name in configs and not configs[name].use_virtual_table:
                optimizer = getattr(parameter, "_optimizer_classes", [None])[0]
                key = (tuple(parameter.shape), parameter.dtype, optimizer, repr(self._constraints.get(name)))
            alike.setdefault(key, []).append((name, parameter))
        return {group[0][0]: group for group in alike.values()}

    def expand(self, found: Mapping[tuple[str, str], list[ShardingOption]]) -> list[ShardingOption]:
        """The options of representatives, given to all that are alike, in canonical order."""
        modules: dict[str, dict[str, list[ShardingOption]]] = {}
        for (path, representative), options in found.items():
            options.sort(key=lambda option: (option.sharding_type, option.compute_kernel))
            for name, parameter in self._members[id(options[0].module[1])][representative]:
                modules.setdefault(path, {})[name] = [_twin(option, name, parameter) for option in options]
        space: list[ShardingOption] = []
        for tables in modules.values():
            order = self._names[id(next(iter(tables.values()))[0].module[1])]
            space.extend(option for name in order if name in tables for option in tables[name])
        return space


def _twin(option: ShardingOption, name: str, parameter: nn.Parameter) -> ShardingOption:
    """The option for another table of the same kind."""
    twin = copy.copy(option)
    twin.name, twin._tensor = name, parameter
    return twin
