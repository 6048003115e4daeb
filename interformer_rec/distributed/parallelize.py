"""The one ordered function that turns a model into a distributed one. In: a model with tables on meta; out: Parallel.

Order, and why: the plan is there already (it was made from tables on meta, so no rank ever holds a whole model);
DistributedModelParallel shards tables and wraps the dense part in DDP, which sends rank 0's dense weights to all; then the
tables get their first weights, by row, in the memory that is really used, and a CPU its faster kernels on that memory; last come
the optimizers, which need the parameters that sharding has made.
"""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import nn
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.distributed.types import ShardingEnv, ShardingPlan

from interformer_rec.config.optimizer import OptimizerConfig
from interformer_rec.config.run import ShardingConfig
from interformer_rec.distributed.environment import Environment
from interformer_rec.distributed.lookup.communication import Exchange
from interformer_rec.distributed.lookup.event_bags import read_events_as_bags
from interformer_rec.distributed.lookup.tables import FirstWeights, initialise_tables, make_room
from interformer_rec.distributed.optimizer import LearningRate, RunOptimizer, fused_params
from interformer_rec.distributed.sharding import ShardedTable, cached, describe, sharders, tables_of


@runtime_checkable
class BeginsEpochs(Protocol):
    """A part of a model whose epochs differ."""

    def begin_epoch(self, epoch: int) -> None:
        """The next steps are of this epoch."""


@runtime_checkable
class TrainsInTurn(BeginsEpochs, Protocol):
    """An embedding ensemble: each epoch trains one of its members."""

    members_before: int  # trained before the run's first epoch

    def frozen_weights(self) -> list[nn.Parameter]:
        """Weights that this epoch does not train."""


@dataclass
class Parallel:
    """A model ready to train on all ranks."""

    model: DistributedModelParallel
    optimizer: RunOptimizer
    plan: list[ShardedTable]
    exchange: Exchange
    prefetch: bool  # rows of cached tables are fetched a batch ahead
    host_cache: float | None = None  # share of their rows that tables in host memory have in a cache
    notes: list[str] = field(default_factory=list)  # what the user should know of the plan
    members_before: int = 0  # of an embedding ensemble, trained before the run's first epoch (a warm start)

    def begin_epoch(self, epoch: int) -> None:
        """Choose what this epoch trains (one member of an embedding ensemble), and freeze the weights of the others."""
        for module in self.model.modules():
            if isinstance(module, TrainsInTurn):
                module.members_before = self.members_before
            if isinstance(module, BeginsEpochs):
                module.begin_epoch(epoch)
            if isinstance(module, TrainsInTurn):
                self.optimizer.frozen = set(module.frozen_weights())


def parallelize(
    model: nn.Module,
    env: Environment,
    *,
    plan: ShardingPlan,
    sharding: ShardingConfig,
    optimizer: OptimizerConfig,
    rate: LearningRate,
    first_weights: FirstWeights,
) -> Parallel:
    """Shard, wrap, initialise, attach optimizers. Collective: same arguments on every rank."""
    exchange = Exchange.of(sharding, env.world_size)
    described = describe(plan, tables_of(model))
    table_sharders = sharders(fused_params(optimizer.embedding, env.device), exchange)
    if sharding.host_cache is not None:
        cached(plan, sharding.host_cache)
    distributed = DistributedModelParallel(
        module=model,
        env=ShardingEnv.from_process_group(torch.distributed.group.WORLD),
        device=env.device,
        plan=plan,
        sharders=table_sharders,
    )
    initialise_tables(distributed, first_weights)
    if env.device.type == "cpu":
        make_room(distributed)
        read_events_as_bags(distributed)
    run_optimizer = RunOptimizer(distributed, optimizer.dense, optimizer.embedding, rate)
    # TorchRec 1.8.0's prefetch pipeline does nothing without CUDA streams, and then fails
    prefetch = sharding.host_cache is not None and env.device.type == "cuda"
    return Parallel(distributed, run_optimizer, described, exchange, prefetch, sharding.host_cache)
