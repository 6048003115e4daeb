"""Where one table lies: a part of a plan file. In: TorchRec's option with ranks, or JSON; out: TablePlan."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from torchrec.distributed.planner.types import Shard, ShardingOption

from interformer_rec.distributed.sharding_types import Kernel
from interformer_rec.errors import InputError


class TablePlan(BaseModel):
    """Where one table lies; other keys may be there."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sharding: str
    kernel: Kernel
    shards: list[tuple[int, int, int, int, int]]  # rank, first row, first column, rows, columns
    ms: float = 0.0

    @classmethod
    def of(cls, option: ShardingOption) -> TablePlan:
        """Of an option with ranks."""
        shards = [(int(s.rank or 0), *s.offset, *s.size) for s in option.shards]
        return cls(sharding=option.sharding_type, kernel=option.compute_kernel, shards=shards)


def on_ranks(option: ShardingOption, given: TablePlan) -> list[Shard]:
    """The option's shards on the ranks of a given plan. Raises InputError where its shards are not as large."""
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
