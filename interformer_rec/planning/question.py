"""A plan's question. In: run config, cluster, nodes, sizes, wishes; out: a Problem, with tables on meta and TorchRec's options for them.

TorchRec enumerates the options and estimates their time, from this cluster's bandwidths and the real numbers of ids a row. Their
memory is counted in memory.py, because TorchRec leaves out a fused optimizer's state (it looks for an attribute that fused
optimizers given as `fused_params` do not set), the gradient of a data-parallel table and the lengths of the ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import nn
from torchrec.distributed.planner import ParameterConstraints
from torchrec.distributed.planner.types import Shard, ShardingOption, Topology

from interformer_rec.config.run import RunConfig
from interformer_rec.distributed.optimizer import fused_params
from interformer_rec.distributed.sharding import sharders, tables_of
from interformer_rec.distributed.sharding_types import SHARDING_TYPES
from interformer_rec.errors import InputError
from interformer_rec.model.task import build_task
from interformer_rec.planning.arguments import RESERVE
from interformer_rec.planning.constraints import TableKind, Wishes, allowed, kinds_of, without_default
from interformer_rec.planning.cost.cluster import GIB, Cluster
from interformer_rec.planning.cost.dense import DenseCost, DenseCosts
from interformer_rec.planning.cost.memory import (
    CACHE_SHARE,
    ConstantBytes,
    Job,
    TableLoad,
    constant_bytes,
    exchange_bytes,
    shard_bytes,
    storage,
)
from interformer_rec.planning.cost.sizes import Sizes
from interformer_rec.planning.search.options import ShardRuns, enumerate_grouped
from interformer_rec.planning.search.rank_groups import Group
from interformer_rec.planning.table_plan import TablePlan

MODEL = frozenset({"config", "sizes", "table_bytes"})  # what model and tables depend on


@dataclass(frozen=True, eq=False)
class Problem:
    """Everything a plan depends on; `what_if` and `explain` change a part of it and ask again."""

    config: RunConfig
    cluster: Cluster
    nodes: int
    batch_size: int  # rows a rank
    sizes: Sizes
    wishes: Wishes
    reserve: float = RESERVE
    table_bytes: int = 4  # of a weight: 4, or 2 for half-precision tables (a what-if: the run config has fp32 only)
    same_model: Problem | None = None  # a question about the same model and tables: what it has made is used here

    @cached_property
    def ranks(self) -> int:
        """World size."""
        return self.cluster.ranks(self.nodes)

    @cached_property
    def model(self) -> nn.Module:
        """The task, all of it on meta."""
        if self.same_model is not None:
            return self.same_model.model
        with torch.device("meta"):
            task = build_task(
                self.config.features, self.config.model, self.sizes.rows, l2=self.config.optimizer.embedding.l2
            )
        if self.table_bytes == 2:  # the estimators look at the tensor alone
            for module in task.embeddings.modules():
                if isinstance(getattr(module, "weight", None), nn.Parameter):
                    module.weight = nn.Parameter(module.weight.half())  # type: ignore[operator,union-attr,arg-type]
        return task

    @cached_property
    def tables(self) -> dict[str, TableLoad]:
        """Every table, with what a row of the batch reads from it."""
        if self.same_model is not None:
            return self.same_model.tables
        features, loads = self.config.features, {}
        for name, info in tables_of(self.model).items():
            lookups = features.pooled_lookups if info.pooled else features.jagged_lookups
            lengths = tuple(self.sizes.of_lookup(lookup.key) for lookup in lookups if lookup.table == name)
            shape = (info.config.num_embeddings, info.config.embedding_dim)
            loads[name] = TableLoad(
                name, *shape, info.pooled, lengths, self.config.optimizer.embedding.kind, self.table_bytes
            )
        return loads

    @cached_property
    def groups(self) -> dict[str, Group]:
        """Tables that the wishes keep on some ranks -> those. Raises InputError for hosts that are not there."""
        return self.wishes.groups(self.tables, self.nodes, self.cluster.devices_per_node)

    @cached_property
    def job(self) -> Job:
        """What the memory of a shard depends on beside its table."""
        cluster, cached = self.cluster, self.config.sharding.host_cache
        return Job(
            self.ranks,
            cluster.devices_per_node,
            self.batch_size,
            cluster.device,
            cluster.overhead,
            cached or CACHE_SHARE,
        )

    @cached_property
    def dense_costs(self) -> DenseCosts:
        """Of the dense part, for any batch size."""
        return DenseCosts(self.config, self.sizes) if self.same_model is None else self.same_model.dense_costs

    @cached_property
    def dense(self) -> DenseCost:
        """Of the dense part, measured on a few rows."""
        return self.dense_costs.of(self.batch_size)

    @cached_property
    def dense_parameters(self) -> int:
        """Numbers in the dense part."""
        return sum(p.numel() for name, p in self.model.named_parameters() if name.startswith("model."))

    @cached_property
    def constant(self) -> ConstantBytes:
        """Memory that is the same on every rank and for every plan."""
        return constant_bytes(self.config, self.job, self.sizes, self.dense, self.dense_parameters)

    @property
    def usable(self) -> int:
        """Bytes of a device that a plan may fill."""
        return round(self.cluster.device_bytes * (1 - self.reserve))

    @property
    def needed_without_tables(self) -> int:
        """Bytes of a device that are taken before the first table."""
        return self.constant.always + max(self.constant.dense_stage, self.constant.exchange)

    def topology(self, exchange: bool = False) -> Topology:
        """TorchRec's view of the cluster, with what is not the tables' taken off.

        By default at the start of the dense backward pass; with `exchange`, so that the larger of the two moments fits, for shards
        that count their send buffers. Raises InputError where nothing is left for tables.
        """
        alive = max(self.constant.dense_stage, self.constant.exchange) if exchange else self.constant.dense_stage
        free = self.usable - self.constant.always - alive
        if free <= 0:
            raise InputError(
                f"no memory is left for tables on {self.cluster.name}: each of its devices has "
                f"{self.cluster.device_bytes / GIB:.1f} GiB, of which {self.reserve:.0%} are reserved, and a batch of "
                f"{self.batch_size} rows needs {(self.constant.always + alive) / GIB:.1f} GiB without any table. "
                f"Use a smaller --batch-size, training.precision=bf16, or larger devices"
            )
        return self.cluster.topology(self.nodes, self.cluster.device_bytes - free)

    def space(self, exchange: bool = False) -> list[ShardingOption]:
        """Every allowed option of every table, with time (ms) and memory estimates."""
        constraints = {}
        for kind in self.kinds:
            kinds = allowed(kind, self.wishes, self.job.device, self.ranks, self.groups.get(kind.name))
            kernels = sorted({kernel for kernels in kinds.values() for kernel in kernels})
            constraints[kind.name] = _constraint(self.tables[kind.name], list(kinds), kernels)
        return self._enumerate(constraints, exchange)

    def all_options(self, exchange: bool = False) -> list[ShardingOption]:
        """Also the options that the wishes rule out, in device memory: for explanations."""
        constraints = {
            name: _constraint(table, [*SHARDING_TYPES], ["fused", "dense"]) for name, table in self.tables.items()
        }
        return self._enumerate(constraints, exchange)

    def options_of(self, plan: Mapping[str, TablePlan]) -> dict[str, ShardingOption]:
        """Table -> the one option that a given plan chose, estimated, with its ranks; memory without send buffers.

        Unlike `space`, nothing is ruled out by wishes or by lack of memory: what
        runs, runs. Raises InputError for a table that lacks, or is cut unlike TorchRec cuts it.
        """
        local = self.cluster.devices_per_node
        constraints = {}
        for name, table in self.tables.items():
            if name not in plan:
                raise InputError(f"the plan has no table {name!r}; it has {', '.join(list(plan)[:20])}")
            given = plan[name]
            pieces = len(given.shards) // (local if given.sharding == "grid_shard" else 1)
            cut = "column" in given.sharding or given.sharding == "grid_shard"
            constraints[name] = _constraint(table, [given.sharding], [given.kernel])
            constraints[name].min_partition = table.dim // max(1, pieces) if cut else None
        everything = self.cluster.topology(self.nodes)
        options = {option.name: option for option in self._enumerate(constraints, False, everything)}
        for name, option in options.items():
            option.shards = _on_ranks(option, plan[name])
        return options

    @property
    def kinds(self) -> list[TableKind]:
        """Of every table, for the wishes."""
        return list(kinds_of(tables_of(self.model), self.config.optimizer.embedding.kind).values())

    @property
    def notes(self) -> list[str]:
        """What the user should know: tables that cannot have the sharding type of sharding.default."""
        note = without_default(self.kinds, self.wishes, self.job.device, self.ranks, self.groups)
        return [] if note is None else [note]

    def changed(self, **changes: object) -> Problem:
        """The same question with something else in it. A thousand tables on meta take a second: both use the same, if they may."""
        same = None if MODEL.intersection(changes) else self.same_model or self
        return replace(self, same_model=same, **changes)  # type: ignore[arg-type]

    def _enumerate(
        self, constraints: dict[str, ParameterConstraints], exchange: bool, topology: Topology | None = None
    ) -> list[ShardingOption]:
        device = torch.device(self.cluster.device)
        table_sharders = sharders(
            fused_params(self.config.optimizer.embedding, device), communication=self.config.sharding.communication
        )
        topology = topology or self.topology(exchange)
        options = enumerate_grouped(self.model, table_sharders, topology, self.batch_size, constraints, False)
        known: dict[
            object, Sequence[Shard]
        ] = {}  # options of tables that are alike share their shards, before and after
        for option in options:
            key = (id(option.shards), replace(self.tables[option.name], name=""), option.compute_kernel)
            if key not in known:
                known[key] = self._weighed(option, exchange)
            option.shards = known[key] if isinstance(known[key], ShardRuns) else list(known[key])  # type: ignore[assignment]
        return options

    def _weighed(self, option: ShardingOption, exchange: bool) -> Sequence[Shard]:
        """The shards with this package's memory estimate instead of TorchRec's."""
        table, shards = self.tables[option.name], option.shards

        def weigh(shard: Shard) -> Shard:
            parts = shard_bytes(table, option.sharding_type, option.compute_kernel, shard.size, self.job)
            alive = exchange_bytes(table, option.sharding_type, shard.size, self.job) if exchange else 0
            return Shard(shard.size, shard.offset, storage(parts, self.job.device, alive), shard.perf, shard.rank)

        if isinstance(shards, ShardRuns):
            return ShardRuns([(count, weigh(shard)) for count, shard in shards.runs], shards._offsets)
        return [weigh(shard) for shard in shards]


def _constraint(table: TableLoad, kinds: list[str], kernels: list[str]) -> ParameterConstraints:
    """What TorchRec may make of a table, and how many ids a row reads from it."""
    means = [length.mean for length in table.lengths]
    return ParameterConstraints(sharding_types=kinds, compute_kernels=kernels, pooling_factors=means)


def _on_ranks(option: ShardingOption, given: TablePlan) -> list[Shard]:
    """The option's shards on the ranks of a given plan, whose shards must be as large."""
    shards = list(option.shards)
    sizes, told = [list(shard.size) for shard in shards], [[rows, columns] for *_, rows, columns in given.shards]
    if told != sizes:
        raise InputError(
            f"table {option.name!r}: the plan has {len(told)} {given.sharding} shards of sizes {told[:4]} (rows, "
            f"columns), where TorchRec cuts {len(shards)} of {sizes[:4]}; only such plans can be estimated"
        )
    for shard, (rank, *_) in zip(shards, given.shards, strict=True):
        shard.rank = rank
    return shards
