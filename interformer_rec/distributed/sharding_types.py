"""Which sharding types and kernels a table may have. In: a kind of table, a device, a wish; out: types and kernels, or why not.

Written once, for `train`, `plan`, plan files and docs/reference/sharding.md; the names of the types are config/run.py's.
TorchRec's sharders say what they support; the other rules are ours: data-parallel tables of an EmbeddingCollection crash
in TorchRec 1.8.0, narrow rows are cut by columns and tables are sharded as grids only by wish, one rank replicates
nothing, and a replicated table's Adam is another optimizer. `sharding.tables.X: T` that cannot be is an error;
`sharding.default: T` holds for the tables that may have it, and the others, named, are planned as with auto.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, get_args

from torchrec.distributed.embedding import EmbeddingCollectionSharder
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder

from interformer_rec.config.run import ShardingType
from interformer_rec.errors import InputError

SHARDING_TYPES: tuple[str, ...] = get_args(ShardingType)[1:]  # without auto
Kernel = Literal["fused", "dense", "fused_uvm", "fused_uvm_caching"]
KERNELS: tuple[Kernel, ...] = ("fused", "dense")  # where a table's rows lie in the memory of the device
HOST_KERNELS: tuple[Kernel, ...] = ("fused_uvm", "fused_uvm_caching")  # in host memory; CUDA only, by wish
MIN_COLUMN_SHARD = 64  # floats; auto does not cut a row into narrower pieces
NAMED = 20  # tables in a sentence


def not_possible(pooled: bool, sharding: str, device: str, kernel: str | None = None) -> str | None:
    """Why no wish can bring this about; None: it works. `pooled`: the table is in an EmbeddingBagCollection; no `kernel`: any."""
    sharder = EmbeddingBagCollectionSharder() if pooled else EmbeddingCollectionSharder()
    if sharding not in sharder.sharding_types(device):
        where = "an EmbeddingBagCollection" if pooled else "an EmbeddingCollection (a history reads it)"
        return f"TorchRec has no {sharding} for {where} on {device}"
    if sharding == "data_parallel" and not pooled:
        return "TorchRec 1.8.0 fails for a data-parallel table of an EmbeddingCollection"
    if kernel is not None and kernel not in sharder.compute_kernels(sharding, device):
        return f"TorchRec has no kernel {kernel} for {sharding} on {device}"
    return None


def not_automatic(sharding: str, dim: int, ranks: int, optimizer: str = "") -> str | None:
    """Why a possible type needs a config or constraints that name it; None: the planner may choose it. `optimizer`: of the tables."""
    if sharding == "grid_shard":
        return "only if asked for, as in TorchRec's planner"
    if "column" in sharding and dim < 2 * MIN_COLUMN_SHARD:
        # narrow pieces waste memory transactions, and each keeps a row-wise accumulator of its own
        return f"rows of {dim} floats would be cut into pieces under {MIN_COLUMN_SHARD}; only if asked for"
    if sharding == "data_parallel" and ranks == 1:
        return "one rank has nobody to replicate for"
    if sharding == "data_parallel" and optimizer == "adam":
        return "torch's Adam goes on to move rows that no id reads, which the fused one does not; only if asked for"
    return None


def possible(pooled: bool, device: str) -> list[str]:
    """Types that a table of this kind may be asked to have."""
    return [sharding for sharding in SHARDING_TYPES if not_possible(pooled, sharding, device) is None]


def check_wish(table: str, pooled: bool, wish: str, device: str) -> None:
    """Raises InputError if sharding.tables.TABLE asks for what cannot be."""
    types = possible(pooled, device)
    if wish != "auto" and wish not in types:
        kind = "pooled (EmbeddingBagCollection)" if pooled else "read by a history (EmbeddingCollection)"
        raise InputError(
            f"sharding.tables.{table} is {wish}, but table {table!r} is {kind} and on {device} may only be "
            f"{', '.join(types)} or auto"
        )


def check_planned(planned: Mapping[str, str], wishes: Mapping[str, str]) -> None:
    """Raises InputError where a plan file gives a table another type than sharding.tables asks for."""
    for table, wish in wishes.items():
        if wish != "auto" and planned.get(table, wish) != wish:
            raise InputError(
                f"sharding.tables.{table} is {wish}, but sharding.plan makes it {planned[table]}: plan again with this config, or "
                f"take one of the two out"
            )


def passed_over(default: str, tables: Iterable[str]) -> str | None:
    """The sentence about tables that cannot have the type of sharding.default; None where all can."""
    names = sorted(tables)
    if not names:
        return None
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return (
        f"sharding.default is {default}, which {len(names)} table(s) may not have; they are planned as with auto: "
        f"{', '.join(names[:NAMED])}{more}"
    )
