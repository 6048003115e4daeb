"""Search spaces for tests: real ones from small models on meta, and hand-made options with chosen costs."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import torch
from torch import nn
from torchrec.distributed.embedding import EmbeddingCollectionSharder
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import ParameterConstraints
from torchrec.distributed.planner.enumerators import get_partition_by_type
from torchrec.distributed.planner.types import (
    HardwareConfig,
    KernelConfig,
    Perf,
    Shard,
    ShardingOption,
    Storage,
    Topology,
    TopologyFactory,
    TrainerConfig,
)
from torchrec.modules.embedding_configs import EmbeddingBagConfig, EmbeddingConfig
from torchrec.modules.embedding_modules import EmbeddingBagCollection, EmbeddingCollection

GIB = 1 << 30
SHARDERS: list[Any] = [EmbeddingBagCollectionSharder(), EmbeddingCollectionSharder()]


class Tables(nn.Module):
    """Bags and sequences on meta; (rows, dim) by name."""

    def __init__(self, bags: dict[str, tuple[int, int]], sequences: dict[str, tuple[int, int]] | None = None) -> None:
        super().__init__()
        meta = torch.device("meta")
        pooled = [
            EmbeddingBagConfig(name=n, num_embeddings=rows, embedding_dim=dim, feature_names=[n])
            for n, (rows, dim) in bags.items()
        ]
        events = [
            EmbeddingConfig(name=n, num_embeddings=rows, embedding_dim=dim, feature_names=[n])
            for n, (rows, dim) in (sequences or {}).items()
        ]
        if pooled:
            self.ebc = EmbeddingBagCollection(tables=pooled, device=meta)
        if events:
            self.ec = EmbeddingCollection(tables=events, device=meta)


def cluster(
    ranks: int, host: int | None = None, device: str = "cuda", hbm: int = 80 * GIB, ddr: int = 200 * GIB
) -> Topology:
    """Bytes a rank; on the CPU only `ddr` counts."""
    return TopologyFactory.create_topology(
        trainer_config=TrainerConfig(world_size=ranks, local_world_size=host or ranks),
        hardware_config=HardwareConfig(hbm_cap_bytes=hbm if device == "cuda" else None, ddr_cap_bytes=ddr),
        kernel_config=KernelConfig(compute_device=device),
    )


def small_case(seed: int) -> tuple[nn.Module, Topology, dict[str, ParameterConstraints], int]:
    """(model, cluster, constraints, batch size): some tables, ranks, memory from plenty to none too much."""
    draw = random.Random(seed)
    ranks = draw.choice([2, 4, 4, 8])
    device = draw.choice(["cpu", "cuda", "cuda"])
    bags: dict[str, tuple[int, int]] = {}
    events: dict[str, tuple[int, int]] = {}
    constraints = {}
    event_dim = draw.choice([16, 64, 128])  # one for all: a rule of EmbeddingCollection
    for i in range(draw.randint(2, 7)):
        rows, name = int(10 ** draw.uniform(2, 7)), f"t{i}"
        if draw.random() < 0.7:
            bags[name] = (rows, draw.choice([16, 64, 128, 256]))
        else:
            events[name] = (rows, event_dim)
        constraints[name] = ParameterConstraints(
            pooling_factors=[draw.choice([1.0, 1.0, 3.0, 20.0, 200.0])],
            min_partition=draw.choice([None, 32, 64]),
            sharding_types=draw.choice([None, None, None, ["table_wise", "row_wise"]]),
        )
    weights = sum(rows * dim * 4 for rows, dim in [*bags.values(), *events.values()])
    room = int(max(weights / ranks * draw.choice([1.05, 1.2, 1.5, 3, 10]), 3e7))
    host = draw.choice([n for n in (1, 2, 4) if ranks % n == 0])
    ddr = room if device == "cpu" else room * draw.choice([1, 10])
    return Tables(bags, events), cluster(ranks, host, device, room, ddr), constraints, draw.choice([64, 512])


def option(
    table: str, kind: str, *shards: tuple[float, int], dependency: str | None = None, **more: Any
) -> ShardingOption:
    """A hand-made option: (milliseconds, bytes of HBM) a shard. `more`: compute_kernel."""
    return ShardingOption(
        name=table,
        tensor=torch.empty(100, 8, device="meta"),
        module=("model", nn.Module()),
        input_lengths=[1.0],
        batch_size=8,
        sharding_type=kind,
        partition_by=get_partition_by_type(kind),
        compute_kernel=more.get("compute_kernel", "fused"),
        shards=[
            Shard(size=[100, 8], offset=[0, 0], perf=Perf(ms, 0, 0, 0), storage=Storage(hbm=size, ddr=0))
            for ms, size in shards
        ],
        dependency=dependency,
        is_pooled=True,
    )


def best_of_all(space: list[ShardingOption], topology: Topology) -> float:
    """The least possible milliseconds of the slowest rank, by trying everything; infinite where nothing fits."""
    ranks, size = topology.world_size, topology.intra_group_size
    room = np.array([[np.inf, d.storage.hbm, d.storage.ddr] for d in topology.devices])
    tables: dict[str, list[np.ndarray]] = {}
    for way in space:
        tables.setdefault(way.fqn, []).extend(_loads(way, ranks, size))
    totals = [np.zeros_like(room)]
    for loads in tables.values():
        totals = [total for before in totals for load in loads if ((total := before + load) <= room).all()]
    return min((float(total[:, 0].max()) for total in totals), default=np.inf)


def _loads(way: ShardingOption, ranks: int, size: int) -> list[np.ndarray]:
    """[ranks, 3] loads of every way to place an option, each once."""
    needs = [(s.perf.total, s.storage.hbm, s.storage.ddr) for s in way.shards if s.perf and s.storage]
    hosts = [list(range(h * size, (h + 1) * size)) for h in range(ranks // size)]
    places: list[tuple[int, ...]]
    if way.partition_by == "uniform":
        places = [tuple(range(ranks))]
    elif way.sharding_type == "table_row_wise":
        places = [tuple(host) for host in hosts]
    elif way.partition_by == "host":
        places = [place for host in hosts for place in itertools.product(host, repeat=len(needs))]
    else:
        places = list(itertools.product(range(ranks), repeat=len(needs)))
    found: dict[bytes, np.ndarray] = {}
    for place in places:
        load = np.zeros((ranks, 3))
        for rank, need in zip(place, needs, strict=True):
            load[rank] += need
        found[load.tobytes()] = load
    return list(found.values())
