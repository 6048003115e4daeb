"""A model's tables before and after sharding. In: the model with tables on meta, a ShardingPlan; out: tables, sharders, rows of the plan.

Which plan is not decided here: it is made by a planner (planning/) and passed down.
"""

from __future__ import annotations

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

from interformer_rec.distributed.lookup.communication import codecs
from interformer_rec.distributed.lookup.deduplication import enable_on_cpu


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


def cached(plan: ShardingPlan, share: float) -> None:
    """Give the tables of a plan that lie in host memory a cache of this share of their rows."""
    for module_plan in plan.plan.values():
        for sharding in cast(Mapping[str, ParameterSharding], module_plan).values():
            if sharding.compute_kernel == EmbeddingComputeKernel.FUSED_UVM_CACHING.value:
                sharding.cache_params = CacheParams(load_factor=share, prefetch_pipeline=True)


def dtype_of(config: BaseEmbeddingConfig) -> str:
    """Of the weights: float32, float16."""
    return config.data_type.value.lower().replace("fp", "float")


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
