"""TorchRec's planner, for comparison with ours. In: a model with tables on meta, where its ranks run, the sharding section; out: a plan.

It takes the constraints of the config like ours, and TorchRec's own estimates of time and memory.
"""

from collections.abc import Mapping

import torch
from torch import nn
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
from torchrec.distributed.types import CacheParams, ShardingPlan

from interformer_rec.config.run import ShardingConfig
from interformer_rec.distributed.environment import Environment
from interformer_rec.distributed.lookup.communication import Exchange
from interformer_rec.distributed.sharding import TableInfo, sharders, tables_of
from interformer_rec.errors import InputError
from interformer_rec.host import total_memory
from interformer_rec.planning.constraints import TableKind, allowed, kinds_of, load_constraints
from interformer_rec.text import size

RESERVED = 0.15  # share of device memory kept free of tables: activations, communication buffers, fragmentation
NO_OPTION = "No available sharding type"  # how the enumerator's RuntimeError about an impossible constraint begins
NO_ROOM = (PlannerErrorType.INSUFFICIENT_STORAGE, PlannerErrorType.PARTITION, PlannerErrorType.STRICT_CONSTRAINTS)
DENSE_COPIES = 6  # weights, gradients, two Adam moments, DDP buckets, and one spare


def torchrec_plan(
    model: nn.Module, env: Environment, *, batch_size: int, sharding: ShardingConfig, optimizer: str = ""
) -> ShardingPlan:
    """Made on rank 0, the same on every rank (collective). `optimizer`: of the tables, if that matters.

    Raises InputError where a wish cannot be fulfilled or the tables do not fit.
    """
    return env.on_main(lambda: _plan(model, env, batch_size, sharding, optimizer))


def _plan(
    model: nn.Module, env: Environment, batch_size: int, sharding: ShardingConfig, optimizer: str
) -> ShardingPlan:
    """On one rank. What goes wrong here is about the plan alone: no other rank is waited for."""
    infos = tables_of(model)
    planner = EmbeddingShardingPlanner(
        topology=_topology(env),
        batch_size=batch_size,
        constraints=_constraints(kinds_of(infos, optimizer), env, sharding),
        storage_reservation=HeuristicalStorageReservation(RESERVED, dense_tensor_estimate=dense_bytes(model)),
        debug=False,
    )
    try:
        return planner.plan(model, sharders({}, Exchange.of(sharding, env.world_size)))
    except (PlannerError, RuntimeError) as error:
        if not (isinstance(error, PlannerError) or str(error).startswith(NO_OPTION)):
            raise
        full = isinstance(error, PlannerError) and error.error_type in NO_ROOM
        raise InputError(no_plan(infos, env, None if full else str(error).strip())) from error


def _constraints(
    kinds: Mapping[str, TableKind], env: Environment, sharding: ShardingConfig
) -> dict[str, ParameterConstraints]:
    device = env.device.type
    constraints = load_constraints(None, sharding, kinds)
    cached = sharding.host_cache is not None and device == "cuda"
    found = {}
    for name, kind in kinds.items():
        options = allowed(kind, constraints, device, env.world_size)
        found[name] = ParameterConstraints(
            sharding_types=list(options),
            compute_kernels=sorted({kernel for kernels in options.values() for kernel in kernels}),
            cache_params=CacheParams(load_factor=sharding.host_cache) if cached else None,
        )
    return found


def dense_bytes(model: nn.Module) -> int:
    """What the dense part takes of a rank's memory, activations apart; tables are on meta."""
    return DENSE_COPIES * sum(p.numel() * p.element_size() for p in model.parameters() if p.device.type != "meta")


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
