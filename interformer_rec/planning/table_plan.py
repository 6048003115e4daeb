"""Where one table lies: a part of a plan file. In: TorchRec's option with ranks, or JSON; out: TablePlan."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from torchrec.distributed.planner.types import ShardingOption

from interformer_rec.distributed.sharding_types import Kernel


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
