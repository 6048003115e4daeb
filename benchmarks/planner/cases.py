"""Models and clusters for benchmarks.planner. In: a case's name; out: its model on meta, its topology and its constraints.

Sizes are written down or drawn from a fixed seed: no data is needed.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torchrec.distributed.planner import ParameterConstraints
from torchrec.distributed.planner.types import HardwareConfig, KernelConfig, Topology, TopologyFactory, TrainerConfig
from torchrec.modules.embedding_configs import EmbeddingBagConfig, EmbeddingConfig
from torchrec.modules.embedding_modules import EmbeddingBagCollection, EmbeddingCollection

SEQUENCE_TYPES = ["table_wise", "column_wise", "row_wise"]  # data_parallel fails at run time in TorchRec 1.8.0
# Rows of the 26 categorical features of the Criteo 1TB click logs, capped at 40 million, as in MLPerf's DLRM-DCNv2.
CRITEO = [40_000_000, 39_060, 17_295, 7_424, 20_265, 3, 7_122, 1_543, 63, 40_000_000, 3_067_956, 405_282, 10, 2_209]
CRITEO += [11_938, 155, 4, 976, 14, 40_000_000, 40_000_000, 40_000_000, 590_152, 12_973, 108, 36]
# configs/kuairand_pure.yaml as fitted: tables of single fields, and those that histories read too.
KUAIRAND = [26, 4819, 7, 17, 14, 11, 11, 10, 9, 20033, 4, 4, 4, 9, 7, 7, 4, 4, 4, 4, 4, 4, 51, 1321, 17, 35, 5]
KUAIRAND += [112, 444, 9, 10, 5, 9]
HOT = (3, 2, 1, 2, 6, 1, 1, 1, 1, 7, 3, 8, 1, 6, 9, 5, 1, 1, 1, 12, 100, 27, 10, 3, 1, 1)  # ids a row in MLPerf's
KUAIRAND_EVENTS = [39.7, 20.8, 1.1]  # mean of watch, long_watch and like, cut at the config's max_length


@dataclass(frozen=True)
class Table:
    """One table: pooled (ids per sample in `lengths`, summed) or a sequence (events per sample)."""

    rows: int
    dim: int
    lengths: tuple[float, ...] = (1.0,)
    pooled: bool = True
    types: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Case:
    """A model on a cluster."""

    tables: Callable[[random.Random], list[Table]]
    ranks: int
    host: int = 8
    device: str = "cuda"
    memory: float = 80  # GiB a rank: HBM, or DDR where the device is cpu
    ddr: float = 200  # GiB a rank beside HBM
    batch: int = 2048  # a rank


def _mixed(
    count: int, rows: tuple[float, float] = (3, 7.3), dims: tuple[int, ...] = (64, 128, 256)
) -> Callable[..., Any]:
    """Tables of 10^low to 10^high rows, most with one id per sample, some bags."""

    def tables(draw: random.Random) -> list[Table]:
        return [
            Table(int(10 ** draw.uniform(*rows)), draw.choice(dims), (draw.choice([1.0, 1.0, 5.0, 20.0]),))
            for _ in range(count)
        ]

    return tables


def _criteo(_: random.Random) -> list[Table]:
    return [Table(rows, 128) for rows in CRITEO]


def _multi_hot(_: random.Random) -> list[Table]:
    return [Table(rows, 128, (float(hot),)) for rows, hot in zip(CRITEO, HOT, strict=True)]


def _ten_ids(_: random.Random) -> list[Table]:
    """NVIDIA recsys-examples: unpooled, ten ids a feature."""
    return [Table(rows, 128, (10.0,), False) for rows in CRITEO]


def _sparse_data_dist(_: random.Random) -> list[Table]:
    """TorchRec's sparse_data_dist_base: nearly all tables alike, and one of 2,048 columns."""
    alike = [Table(100_000, 256, (30.0,)) for _ in range(170)]
    return [*alike, Table(100_000, 512, (30.0,)), Table(100_000, 128, (30.0,)), Table(1_000_000, 2048, (30.0,))]


def _kuairand(_: random.Random) -> list[Table]:
    histories = [Table(rows, 16, (1.0, *KUAIRAND_EVENTS), False) for rows in (7496, 6448)]
    return [Table(rows, 16) for rows in KUAIRAND] + [*histories, Table(49, 16, tuple(KUAIRAND_EVENTS), False)]


def _terabyte(draw: random.Random) -> list[Table]:
    """300 features; a user table of a billion rows; ten histories of 200 to 1,000 events."""
    giant = [Table(1_000_000_000, 128), Table(400_000_000, 128), Table(200_000_000, 128)]
    histories = [
        Table(int(10 ** draw.uniform(5, 7.5)), 64, (float(draw.choice([200, 500, 1000])),), False) for _ in range(10)
    ]
    return giant + histories + _mixed(287, (2, 6.5), (64, 128))(draw)


def _sequences(draw: random.Random) -> list[Table]:
    return [Table(int(10 ** draw.uniform(4, 7)), 64, (1000.0,), False) for _ in range(12)] + _mixed(20, (2, 6))(draw)


def _giant(draw: random.Random) -> list[Table]:
    return [Table(1_800_000_000, 64), *_mixed(20, (2, 5))(draw)]


def _tight(draw: random.Random) -> list[Table]:
    """Table-wise only: sizes that fill four ranks to the last per cent, if they are put in the right order."""
    parts = [[50, 50], [50, 50], [40, 30, 30], [40, 30, 30]]
    percent = [p for rank in parts for p in rank]
    draw.shuffle(percent)
    room = 0.85 * 8 * 2**30 * 0.985
    return [Table(int(room * p / 100 / (128 * 4)), 128, types=("table_wise",)) for p in percent]


def _twins(_: random.Random) -> list[Table]:
    """Few kinds of tables, many of each: what grouping is for."""
    return [Table(rows, 64) for rows in (1_000, 100_000, 10_000_000) for _ in range(60)]


CASES = {
    "criteo, 16 ranks": Case(_criteo, 16),
    "criteo, one host": Case(_criteo, 8, batch=8192),
    "MLPerf, one host": Case(_multi_hot, 8, batch=6912),
    "ten ids, one host": Case(_ten_ids, 8, batch=8192),
    "sparse_data_dist": Case(_sparse_data_dist, 8, memory=180, batch=32768),
    "kuairand, 4 CPU ranks": Case(_kuairand, 4, 4, "cpu", 6, batch=1024),
    "kuairand, 2 hosts of 2": Case(_kuairand, 4, 2, "cuda", 24, batch=1024),
    "1 TB, 24 ranks": Case(_terabyte, 24),
    "500 tiny tables": Case(_mixed(500, (1, 3), (16, 32)), 8),
    "one giant table": Case(_giant, 8),
    "tight memory": Case(_tight, 4, 4, memory=8, ddr=0),
    "sequences of 1,000": Case(_sequences, 16),
    "mixed dims": Case(_mixed(60, (3, 7), (8, 16, 48, 96, 192, 512)), 16),
    "twins": Case(_twins, 16),
    "100 x 32": Case(_mixed(100), 32),
    "200 x 64": Case(_mixed(200), 64),
    "1,000 x 256": Case(_mixed(1000), 256),
    "2,000 x 1,024": Case(_mixed(2000), 1024),
}


class _Model(nn.Module):
    """Pooled tables in one EmbeddingBagCollection, sequences in one EmbeddingCollection a dim."""

    def __init__(self, tables: dict[str, Table]) -> None:
        super().__init__()
        meta = torch.device("meta")

        def fields(name: str) -> dict[str, Any]:
            table, names = tables[name], [f"{name}_{i}" for i in range(len(tables[name].lengths))]
            return {"name": name, "embedding_dim": table.dim, "num_embeddings": table.rows, "feature_names": names}

        bags = [EmbeddingBagConfig(**fields(name)) for name, table in tables.items() if table.pooled]
        self.bags = EmbeddingBagCollection(tables=bags, device=meta)
        self.sequences = nn.ModuleList(
            EmbeddingCollection(tables=[EmbeddingConfig(**fields(n)) for n in same], device=meta)
            for same in _by_dim({name: table for name, table in tables.items() if not table.pooled})
        )


def _by_dim(tables: dict[str, Table]) -> list[list[str]]:
    dims = sorted({table.dim for table in tables.values()})
    return [[name for name, table in tables.items() if table.dim == dim] for dim in dims]


def tables_of(case: Case) -> dict[str, Table]:
    """By the names that they have in the model."""
    return {f"t{i}": table for i, table in enumerate(case.tables(random.Random(0)))}


def build(case: Case) -> tuple[nn.Module, Topology, dict[str, ParameterConstraints]]:
    """The model on meta, the cluster, and the constraints that carry the lengths."""
    tables = tables_of(case)
    constraints = {
        name: ParameterConstraints(
            pooling_factors=list(table.lengths),
            sharding_types=list(table.types) if table.types else (None if table.pooled else SEQUENCE_TYPES),
        )
        for name, table in tables.items()
    }
    gib = 1 << 30
    hbm = int(case.memory * gib) if case.device == "cuda" else None
    topology = TopologyFactory.create_topology(
        trainer_config=TrainerConfig(world_size=case.ranks, local_world_size=min(case.host, case.ranks)),
        hardware_config=HardwareConfig(
            hbm_cap_bytes=hbm, ddr_cap_bytes=int((case.memory if hbm is None else case.ddr) * gib)
        ),
        kernel_config=KernelConfig(compute_device=case.device),
    )
    return _Model(tables), topology, constraints
