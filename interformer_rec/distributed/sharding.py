"""Which rank holds which part of which table. In: the model with tables on meta, and constraints; out: a TorchRec ShardingPlan.

TorchRec's planner decides; what each kind of module supports on each device is checked first (sharding_types.py), so that an impossible
wish is an error that names the table and what it may ask for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from torchrec.distributed.embedding import EmbeddingCollectionSharder
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner, ParameterConstraints
from torchrec.distributed.planner.planners import HeuristicalStorageReservation
from torchrec.distributed.planner.types import (
    HardwareConfig,
    KernelConfig,
    PlannerError,
    PlannerErrorType,
    Topology,
    TopologyFactory,
    TrainerConfig,
)
from torchrec.distributed.types import CacheParams, ModuleSharder, ParameterSharding, ShardingPlan
from torchrec.modules.embedding_configs import BaseEmbeddingConfig
from torchrec.modules.embedding_modules import EmbeddingBagCollection, EmbeddingCollection

from interformer_rec.config.run import ShardingConfig
from interformer_rec.distributed.environment import Environment
from interformer_rec.distributed.lookup.communication import codecs
from interformer_rec.distributed.lookup.deduplication import enable_on_cpu
from interformer_rec.distributed.sharding_types import allowed_types, check_wish, not_possible, passed_over
from interformer_rec.errors import InputError
from interformer_rec.host_memory import total_memory
from interformer_rec.text import size

RESERVED = 0.15  # share of device memory kept free of tables: activations, communication buffers, fragmentation
NO_OPTION = "No available sharding type"  # how the enumerator's RuntimeError about an impossible constraint begins
NO_ROOM = (PlannerErrorType.INSUFFICIENT_STORAGE, PlannerErrorType.PARTITION, PlannerErrorType.STRICT_CONSTRAINTS)
DENSE_COPIES = 6  # weights, gradients, two Adam moments, DDP buckets, and one spare


@dataclass(frozen=True)
class TableInfo:
    """One table as the sharders see it."""

    config: BaseEmbeddingConfig
    pooled: bool  # in an EmbeddingBagCollection
    path: str  # parameter's name in the model's state dict


def tables_of(model: nn.Module) -> dict[str, TableInfo]:
    """Every table of an unsharded model by name."""
    found: dict[str, TableInfo] = {}
    for path, module in model.named_modules():
        if isinstance(module, EmbeddingBagCollection):
            for bag in module.embedding_bag_configs():
                found[bag.name] = TableInfo(bag, True, f"{path}.embedding_bags.{bag.name}.weight")
        elif isinstance(module, EmbeddingCollection):
            for config in module.embedding_configs():
                found[config.name] = TableInfo(config, False, f"{path}.embeddings.{config.name}.weight")
    return found


def sharders(
    fused_params: dict[str, object], *, deduplicate: bool = False, communication: str = "fp32"
) -> list[ModuleSharder[nn.Module]]:
    """The sharders of the two collections, with the optimizer that runs inside their backward kernels.

    `deduplicate`: the EmbeddingCollection sends and looks up each distinct id of a table once per batch and rank (TorchRec has no
    such form of an EmbeddingBagCollection). `communication`: see communication.py.
    """
    if deduplicate:
        enable_on_cpu()
    registry = codecs(communication)
    return [
        EmbeddingBagCollectionSharder(fused_params=fused_params, qcomm_codecs_registry=registry),
        EmbeddingCollectionSharder(
            fused_params=fused_params, qcomm_codecs_registry=registry, use_index_dedup=deduplicate
        ),
    ]


def make_plan(
    model: nn.Module,
    table_sharders: list[ModuleSharder[nn.Module]],
    env: Environment,
    batch_size: int,
    default: str = "auto",
    wishes: Mapping[str, str] | None = None,
    host_cache: float | None = None,
) -> ShardingPlan:
    """Plan on rank 0, the same on every rank. `wishes`: table -> sharding type, over `default`; auto lets the planner choose.

    `host_cache`: on CUDA tables stay in host memory, with a cache of this share of their rows.

    Raises InputError where a wish cannot be fulfilled or the tables do not fit.
    """
    return env.on_main(lambda: plan_on_one(model, table_sharders, env, batch_size, default, wishes or {}, host_cache))


def without_default(infos: Mapping[str, TableInfo], sharding: ShardingConfig, device: str) -> str | None:
    """The sentence about the tables that sharding.default cannot hold for."""
    if sharding.default == "auto":
        return None
    free = {name: info for name, info in infos.items() if name not in sharding.tables}
    return passed_over(
        sharding.default, [n for n, i in free.items() if not_possible(i.pooled, sharding.default, device)]
    )


def plan_on_one(
    model: nn.Module,
    table_sharders: list[ModuleSharder[nn.Module]],
    env: Environment,
    batch_size: int,
    default: str,
    wishes: Mapping[str, str],
    host_cache: float | None,
) -> ShardingPlan:
    """On one rank. What goes wrong here is about the plan alone: no other rank is waited for."""
    infos, device = tables_of(model), env.device.type
    for name, wish in wishes.items():
        check_wish(name, infos[name].pooled, wish, device)
    types = {
        name: allowed_types(info.pooled, info.config.embedding_dim, device, env.world_size, wishes.get(name, default))
        for name, info in infos.items()
    }
    kernels, cache = [EmbeddingComputeKernel.FUSED.value, EmbeddingComputeKernel.DENSE.value], None
    if host_cache is not None and env.device.type == "cuda":
        kernels = [EmbeddingComputeKernel.FUSED_UVM_CACHING.value]
        cache = CacheParams(load_factor=host_cache, prefetch_pipeline=True)
    constraints = {
        name: ParameterConstraints(
            sharding_types=types[name],
            compute_kernels=[EmbeddingComputeKernel.DENSE.value] if types[name] == ["data_parallel"] else kernels,
            cache_params=None if types[name] == ["data_parallel"] else cache,
        )
        for name in infos
    }
    planner = EmbeddingShardingPlanner(
        topology=_topology(env),
        batch_size=batch_size,
        constraints=constraints,
        storage_reservation=HeuristicalStorageReservation(RESERVED, dense_tensor_estimate=dense_bytes(model)),
        debug=False,
    )
    try:
        return planner.plan(model, table_sharders)
    except (PlannerError, RuntimeError) as error:
        if not (isinstance(error, PlannerError) or str(error).startswith(NO_OPTION)):
            raise
        full = isinstance(error, PlannerError) and error.error_type in NO_ROOM
        raise InputError(no_plan(infos, env, None if full else str(error).strip())) from error


def cached(plan: ShardingPlan, share: float) -> None:
    """Give the tables of a plan that lie in host memory a cache of this share of their rows."""
    for module_plan in plan.plan.values():
        for sharding in cast(Mapping[str, ParameterSharding], module_plan).values():
            if sharding.compute_kernel == EmbeddingComputeKernel.FUSED_UVM_CACHING.value:
                sharding.cache_params = CacheParams(load_factor=share, prefetch_pipeline=True)


def dtype_of(config: BaseEmbeddingConfig) -> str:
    """Of the weights: float32, float16."""
    return config.data_type.value.lower().replace("fp", "float")


def dense_bytes(model: nn.Module) -> int:
    """What the dense part takes of a rank's memory, activations apart; tables are on meta."""
    return DENSE_COPIES * sum(p.numel() * p.element_size() for p in model.parameters() if p.device.type != "meta")


def describe(plan: ShardingPlan, infos: dict[str, TableInfo]) -> list[dict[str, object]]:
    """One JSON-able row a table: what it is, its sharding type, kernel, ranks and shards [rank, row, column, rows, columns]."""
    rows: list[dict[str, object]] = []
    for module_plan in plan.plan.values():
        for name, sharding in cast(Mapping[str, ParameterSharding], module_plan).items():
            config = infos[name].config
            shape, ranks = (config.num_embeddings, config.embedding_dim), list(sharding.ranks or [])
            spec = sharding.sharding_spec
            pieces = (
                [[*s.shard_offsets, *s.shard_sizes] for s in spec.shards] if spec else [[0, 0, *shape] for _ in ranks]
            )
            rows.append(
                {
                    "table": name,
                    "sharding": sharding.sharding_type,
                    "kernel": sharding.compute_kernel,
                    "ranks": sorted(set(ranks)),
                    "shards": [[rank, *piece] for rank, piece in zip(ranks, pieces, strict=True)],
                    "rows": shape[0],
                    "dim": shape[1],
                    "dtype": dtype_of(config),
                    "pooled": infos[name].pooled,
                }
            )
    return sorted(rows, key=lambda row: str(row["table"]))


def no_plan(infos: Mapping[str, TableInfo], env: Environment, why: str | None = None) -> str:
    """The message. `why`: a planner's words; else what the tables take and what there is, in place of the numbers of every shard."""
    return (
        f"no sharding plan for {len(infos)} tables on {env.world_size} {env.device.type} rank(s): {why or _no_room(infos, env)} "
        f"Allow more sharding types (sharding.default=auto), use more ranks, or shrink the tables."
    )


def _no_room(infos: Mapping[str, TableInfo], env: Environment) -> str:
    weights = {name: info.config.num_embeddings * info.config.embedding_dim * 4 for name, info in infos.items()}
    largest = max(weights, key=lambda name: weights[name])
    rows, width = infos[largest].config.num_embeddings, infos[largest].config.embedding_dim
    gpu, host = memory_of(env)
    there = f"{size(host)} of host memory" + (f" and {size(gpu)} of GPU memory" if gpu else "")
    return (
        f"they do not fit. Their weights are {size(sum(weights.values()))}, without the optimizer's state; the largest table is "
        f"{largest!r} with {rows:,} rows of {width} floats, {size(weights[largest])}; a rank has {there}, "
        f"of which {RESERVED:.0%} stay free."
    )


def memory_of(env: Environment) -> tuple[int, int]:
    """Bytes of GPU memory and of host memory for each rank, as measured here."""
    gpu = torch.cuda.get_device_properties(env.device).total_memory if env.device.type == "cuda" else 0
    return gpu, total_memory() // env.local_world_size


def _topology(env: Environment) -> Topology:
    """This job's machines: memory as measured here, the rest TorchRec's defaults."""
    hbm, ddr = memory_of(env)
    return TopologyFactory.create_topology(
        trainer_config=TrainerConfig(world_size=env.world_size, local_world_size=env.local_world_size),
        hardware_config=HardwareConfig(hbm_cap_bytes=hbm or None, ddr_cap_bytes=ddr),
        kernel_config=KernelConfig(compute_device=env.device.type),
    )
