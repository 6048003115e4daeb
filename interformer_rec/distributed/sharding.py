"""A model's tables before and after sharding. In: the model with tables on meta, a ShardingPlan; out: tables, sharders, their shards.

Which plan is not decided here: it is made by a planner (planning/) and passed down.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from torch import nn
from torchrec.distributed.embedding import EmbeddingCollectionSharder
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.types import CacheParams, ModuleSharder, ParameterSharding, ShardingPlan
from torchrec.modules.embedding_configs import BaseEmbeddingConfig
from torchrec.modules.embedding_modules import EmbeddingBagCollection, EmbeddingCollection

from interformer_rec.distributed.lookup.communication import Exchange, codecs
from interformer_rec.distributed.lookup.deduplication import enable_on_cpu

ALL_AS_IT_IS = Exchange(deduplicate=False, communication="fp32")


@dataclass(frozen=True)
class TableInfo:
    """One table as the sharders see it."""

    config: BaseEmbeddingConfig
    pooled: bool  # in an EmbeddingBagCollection
    path: str  # parameter's name in the model's state dict


@dataclass(frozen=True)
class ShardedTable:
    """Where a plan puts one table."""

    table: str
    sharding: str  # TorchRec's sharding type
    kernel: str
    ranks: list[int]
    shards: list[list[int]]  # [rank, first row, first column, rows, columns]
    rows: int
    dim: int
    dtype: str
    pooled: bool


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


def sharders(fused_params: dict[str, object], exchange: Exchange = ALL_AS_IT_IS) -> list[ModuleSharder[nn.Module]]:
    """The sharders of the two collections, with the optimizer that runs inside their backward kernels.

    With `exchange.deduplicate` the EmbeddingCollection sends and looks up each distinct id of a table once per batch and rank (TorchRec
    has no such form of an EmbeddingBagCollection).
    """
    if exchange.deduplicate:
        enable_on_cpu()
    registry = codecs(exchange.communication)
    return [
        EmbeddingBagCollectionSharder(fused_params=fused_params, qcomm_codecs_registry=registry),
        EmbeddingCollectionSharder(
            fused_params=fused_params, qcomm_codecs_registry=registry, use_index_dedup=exchange.deduplicate
        ),
    ]


def cached(plan: ShardingPlan, share: float) -> None:
    """Give the tables of a plan that lie in host memory a cache of this share of their rows."""
    for module_plan in plan.plan.values():
        for sharding in cast(Mapping[str, ParameterSharding], module_plan).values():
            if sharding.compute_kernel == EmbeddingComputeKernel.FUSED_UVM_CACHING.value:
                sharding.cache_params = CacheParams(load_factor=share, prefetch_pipeline=True)


def dtype_of(config: BaseEmbeddingConfig) -> str:
    """Of the weights: float32, float16."""
    return config.data_type.value.lower().replace("fp", "float")


def describe(plan: ShardingPlan, infos: dict[str, TableInfo]) -> list[ShardedTable]:
    """Every table of the plan, by name."""
    found: list[ShardedTable] = []
    for module_plan in plan.plan.values():
        for name, sharding in cast(Mapping[str, ParameterSharding], module_plan).items():
            config = infos[name].config
            shape, ranks = (config.num_embeddings, config.embedding_dim), list(sharding.ranks or [])
            spec = sharding.sharding_spec
            pieces = (
                [[*s.shard_offsets, *s.shard_sizes] for s in spec.shards] if spec else [[0, 0, *shape] for _ in ranks]
            )
            shards = [[rank, *piece] for rank, piece in zip(ranks, pieces, strict=True)]
            kinds = sharding.sharding_type, sharding.compute_kernel
            found.append(
                ShardedTable(name, *kinds, sorted(set(ranks)), shards, *shape, dtype_of(config), infos[name].pooled)
            )
    return sorted(found, key=lambda table: table.table)
