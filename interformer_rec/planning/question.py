"""A plan's question. In: run config, cluster, nodes, sizes, constraints; out: a Problem, tables on meta and TorchRec's options for them.

TorchRec enumerates the options. Their memory is counted in memory.py, because TorchRec leaves out a fused optimizer's state (it looks
for an attribute that fused optimizers given as `fused_params` do not set), the gradient of a data-parallel table and the lengths of the
ids; their time in shard_time.py, because TorchRec knows neither distinct ids nor optimizers, and charges all traffic to one link.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import nn
from torchrec.distributed.planner import ParameterConstraints
from torchrec.distributed.planner.types import Shard, ShardingOption, Topology

from interformer_rec.config.run import RunConfig
from interformer_rec.distributed.lookup.communication import Exchange
from interformer_rec.distributed.optimizer import fused_params
from interformer_rec.distributed.sharding import sharders, tables_of
from interformer_rec.distributed.sharding_types import SHARDING_TYPES
from interformer_rec.errors import InputError
from interformer_rec.model.task import build_task
from interformer_rec.planning.arguments import RESERVE
from interformer_rec.planning.choose.cuts import constraint, cuts
from interformer_rec.planning.choose.exchange import Allowed, agree, allowed_exchanges
from interformer_rec.planning.choose.weigh import weighed
from interformer_rec.planning.constraints import Constraints, TableKind, allowed, kinds_of, without_default
from interformer_rec.planning.cost.cluster import Cluster
from interformer_rec.planning.cost.dense import DenseCost, DenseCosts
from interformer_rec.planning.cost.dense_time import in_microbatches
from interformer_rec.planning.cost.load import CACHE_SHARE, UNIFORM, Job, TableLoad
from interformer_rec.planning.cost.memory import (
    ConstantBytes,
    constant_bytes,
)
from interformer_rec.planning.cost.shard_time import CACHED
from interformer_rec.planning.cost.sizes import Sizes
from interformer_rec.planning.cost.work import BY_COLUMNS
from interformer_rec.planning.search.options import ShardRuns, enumerate_grouped
from interformer_rec.planning.search.rank_groups import RankGroup
from interformer_rec.planning.table_plan import TablePlan, on_ranks
from interformer_rec.text import GIB

MODEL = frozenset({"config", "sizes", "table_bytes"})  # what model and tables depend on


@dataclass(frozen=True, eq=False)
class Problem:
    """Everything a plan depends on; `what_if` and `explain` change a part of it and ask again."""

    config: RunConfig
    cluster: Cluster
    nodes: int
    batch_size: int  # rows a rank
    sizes: Sizes
    constraints: Constraints
    reserve: float = RESERVE
    table_bytes: int = 4  # of a weight: 4, or 2 for half-precision tables (a what-if: the run config has fp32 only)
    dense_ms: tuple[float, float] | None = None  # forward and backward pass, where somebody measured them
    counted: DenseCost | None = None  # of the dense part, where it is not run as the model is
    cache_share: float | None = None  # chosen; None: as wished
    exchange: Exchange | None = None  # None: not chosen yet; costs are those of the first that is allowed
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
                name,
                *shape,
                info.pooled,
                lengths,
                self.config.optimizer.embedding.kind,
                self.table_bytes,
                self.sizes.repeats.get(name, UNIFORM),
                features.tables[name].ids == "vocab" and features.tables[name].grow is None,
            )
        return loads

    @cached_property
    def alike(self) -> dict[str, int]:
        """Table -> a number that tables of equal costs share."""
        if self.same_model is not None:
            return self.same_model.alike
        numbers: dict[TableLoad, int] = {}
        return {n: numbers.setdefault(replace(load, name=""), len(numbers)) for n, load in self.tables.items()}

    @cached_property
    def groups(self) -> dict[str, RankGroup]:
        """Tables that the constraints keep on some ranks -> those. Raises InputError for hosts that are not there."""
        return self.constraints.groups(self.tables, self.nodes, self.cluster.devices_per_node)

    @cached_property
    def allowed(self) -> Allowed:
        """Exchanges that a plan may have. Raises InputError where constraints and config contradict each other."""
        if self.exchange is not None:
            return Allowed((self.exchange,))
        histories = [table for table in self.tables.values() if not table.pooled]
        return allowed_exchanges(
            self.config.sharding,
            self.ranks,
            deduplicate=self.constraints.deduplicate,
            communication=self.constraints.communication,
            histories=bool(histories),
            uncounted=[table.name for table in histories if not table.repeats.distinct],
        )

    @property
    def cache_wish(self) -> float | None:
        """Share of a table's rows in its cache, where constraints or config name one. Raises InputError where they differ."""
        wish, ours = self.constraints.host_cache, self.config.sharding.host_cache
        agree("host_cache", ours, wish, None if wish is None else (wish,))
        return ours if wish is None else wish

    @cached_property
    def job(self) -> Job:
        """What the memory of a shard depends on beside its table."""
        cluster, exchange = self.cluster, self.allowed.exchanges[0]
        return Job(
            self.ranks,
            cluster.devices_per_node,
            self.batch_size,
            cluster.device,
            cluster.overhead,
            self.cache_share or self.cache_wish or CACHE_SHARE,
            deduplicate=exchange.deduplicate,
            communication=exchange.communication,
        )

    @cached_property
    def dense_costs(self) -> DenseCosts:
        """Of the dense part, for any batch size."""
        return DenseCosts(self.config, self.sizes) if self.same_model is None else self.same_model.dense_costs

    @cached_property
    def dense(self) -> DenseCost:
        """Of the dense part, measured on a few rows."""
        if self.counted is not None:
            return self.counted
        return in_microbatches(self.dense_costs, self.batch_size, self.config.training.microbatches)

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

    @cached_property
    def first_space(self) -> list[ShardingOption]:
        """`space` without send buffers: it is looked at more than once."""
        return self.space()

    def space(self, exchange: bool = False) -> list[ShardingOption]:
        """Every allowed option of every table, with time (ms) and memory estimates."""
        options: dict[str, tuple[list[str], list[str]]] = {}
        for kind in self.kinds:
            kinds = allowed(kind, self.constraints, self.job.device, self.ranks, self.groups.get(kind.name))
            options[kind.name] = list(kinds), sorted({kernel for kernels in kinds.values() for kernel in kernels})
        return self._every_cut(options, exchange)

    def all_options(self, exchange: bool = False) -> list[ShardingOption]:
        """Also the options that the constraints rule out, in device memory: for explanations."""
        return self._every_cut(dict.fromkeys(self.tables, ([*SHARDING_TYPES], ["fused", "dense"])), exchange)

    def _every_cut(self, options: Mapping[str, tuple[list[str], list[str]]], exchange: bool) -> list[ShardingOption]:
        """Table -> sharding types and kernels: its options, those by columns once for each width of their pieces."""
        wished = {name: self.constraints.of(name).min_partition for name in options}
        found: list[ShardingOption] = []
        for constraints, cut in cuts(self.tables, options, wished):
            found += [option for option in self._enumerate(constraints, exchange) if option.name in cut]
        return found

    def options_of(self, plan: Mapping[str, TablePlan]) -> dict[str, ShardingOption]:
        """Table -> the one option that a given plan chose, estimated, with its ranks; memory without send buffers.

        Unlike `space`, nothing is ruled out by constraints or by lack of memory: what
        runs, runs. Raises InputError for a table that lacks, or is cut unlike TorchRec cuts it.
        """
        local = self.cluster.devices_per_node
        constraints = {}
        for name, table in self.tables.items():
            if name not in plan:
                raise InputError(f"the plan has no table {name!r}; it has {', '.join(list(plan)[:20])}")
            given = plan[name]
            pieces = len(given.shards) // (local if given.sharding == "grid_shard" else 1)
            cut = given.sharding in BY_COLUMNS
            width = table.dim // max(1, pieces) if cut else None
            constraints[name] = constraint(table, [given.sharding], [given.kernel], width)
        everything = self.cluster.topology(self.nodes)
        options = {option.name: option for option in self._enumerate(constraints, False, everything)}
        for name, option in options.items():
            option.shards = on_ranks(option, plan[name])
        return options

    def weighed_again(self, options: Sequence[ShardingOption]) -> list[ShardingOption]:
        """Placed options with the estimates of this question; only those of cached tables depend on the cache."""
        found = []
        for option in options:
            again = copy.copy(option)
            if option.compute_kernel == CACHED:
                again.shards = list(weighed(option, self.tables[option.name], self.job, self.cluster))
            found.append(again)
        return found

    @property
    def kinds(self) -> list[TableKind]:
        """Of every table, for the constraints."""
        return list(kinds_of(tables_of(self.model), self.config.optimizer.embedding.kind).values())

    @property
    def notes(self) -> list[str]:
        """What the user should know: tables that cannot have the sharding type of sharding.default."""
        note = without_default(self.kinds, self.constraints, self.job.device, self.ranks, self.groups)
        return [] if note is None else [note]

    def changed(self, **changes: object) -> Problem:
        """The same question with something else in it. A thousand tables on meta take a second: both use the same, if they may."""
        same = None if MODEL.intersection(changes) else self.same_model or self
        return replace(self, same_model=same, **changes)  # type: ignore[arg-type]

    def _enumerate(
        self, constraints: dict[str, ParameterConstraints], exchange: bool, topology: Topology | None = None
    ) -> list[ShardingOption]:
        device = torch.device(self.cluster.device)
        table_sharders = sharders(fused_params(self.config.optimizer.embedding, device))
        topology = topology or self.topology(exchange)
        options = enumerate_grouped(self.model, table_sharders, topology, self.batch_size, constraints, estimates=False)
        # options of tables that are alike share their shards, before and after
        known: dict[object, Sequence[Shard]] = {}
        for option in options:
            key = (id(option.shards), self.alike[option.name], option.compute_kernel)
            if key not in known:
                known[key] = weighed(option, self.tables[option.name], self.job, self.cluster, exchange)
            option.shards = known[key] if isinstance(known[key], ShardRuns) else list(known[key])  # type: ignore[assignment]
        return options
