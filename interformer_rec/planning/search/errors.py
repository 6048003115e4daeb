"""Why there is no plan. In: what was needed and what there is; out: NoPlan with the numbers that explain it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from torchrec.distributed.planner.types import ShardingOption, Storage

from interformer_rec.errors import InputError
from interformer_rec.planning.search.rank_groups import Group

GIB = 1 << 30
MEMORY = ("hbm", "ddr", "ssd")


class NoPlan(InputError):
    """No placement of the tables was found.

    `proven`: there is none; otherwise the search only did not find one. `need` and `capacity`: bytes by memory (hbm, ddr,
    ssd), summed over tables and over ranks; `need` is the least that a table takes of each, by itself. Where one table is
    to blame, `table` and `option` (sharding type, kernel) name it, and `short` says how many bytes of `memory` it lacks on
    `rank`, the rank that comes closest.
    """

    def __init__(
        self,
        message: str,
        *,
        proven: bool,
        need: dict[str, int],
        capacity: dict[str, int],
        table: str | None = None,
        option: tuple[str, str] | None = None,
        rank: int | None = None,
        memory: str | None = None,
        short: int | None = None,
    ) -> None:
        super().__init__(message)
        self.proven, self.need, self.capacity = proven, need, capacity
        self.table, self.option, self.rank, self.memory, self.short = table, option, rank, memory, short

    def __reduce__(self) -> tuple[Any, ...]:
        """Exceptions are pickled by their positional arguments alone; this one goes from rank 0 to the others."""
        return _again, (str(self), vars(self))


def _again(message: str, given: dict[str, Any]) -> NoPlan:
    return NoPlan(message, **given)


def bytes_of(row: np.ndarray) -> dict[str, int]:
    """[R] with milliseconds first -> bytes by memory."""
    return {name: int(n) for name, n in zip(MEMORY, row[1:4], strict=True)}


def no_option_fits(options: Sequence[ShardingOption], capacity: np.ndarray, group: Group | None = None) -> NoPlan:
    """For a table whose every option has a shard that no rank can hold. `capacity`: [W, R]; `group`: where it has to stay."""
    closest: tuple[float, ShardingOption, int, int] | None = None
    least = np.full(4, np.inf)
    numbers = list(group.ranks) if group else list(range(len(capacity)))
    capacity, only = capacity[numbers, :4], f" of {group.label}, as constraints want," if group else ","
    for option in options:
        needs = np.array([[0, *_bytes(cast(Storage, shard.storage))] for shard in option.shards], dtype=float)
        least = np.minimum(least, needs.sum(axis=0))
        over = needs.max(axis=0) - capacity  # [W, R]
        over[:, 0] = -np.inf
        rank = int(over.max(axis=1).argmin())
        memory = int(over[rank].argmax())
        if closest is None or over[rank, memory] < closest[0]:
            closest = (over[rank, memory], option, rank, memory - 1)
    assert closest is not None, "a table without options is upstream's error"
    short, option, rank, where = closest
    name = MEMORY[where]
    kind = f"{option.sharding_type}, {option.compute_kernel}"
    room = int(capacity[rank, where + 1])
    need = room + int(short)
    if short > 0:
        why = f"closest is {kind}: a shard of {need / GIB:.2f} GiB {name.upper()} on rank {numbers[rank]}{only} which has {room / GIB:.2f}"
    else:
        why = f"{kind} has {option.num_shards} shards, which do not go onto {group.label if group else f'{len(capacity)} ranks'}"
    return NoPlan(
        f"table {option.name!r} ({option.tensor.shape[0]:,} x {option.tensor.shape[1]}) fits in none of its "
        f"{len(options)} sharding options; {why}. Allow more sharding types or kernels for it, use more ranks, or shrink it.",
        proven=True,
        need=bytes_of(least),
        capacity=bytes_of(capacity.sum(axis=0)),
        table=option.name,
        option=(option.sharding_type, option.compute_kernel),
        rank=numbers[rank],
        memory=name,
        short=max(0, int(short)),
    )


def _bytes(storage: Storage) -> tuple[int, int, int]:
    return storage.hbm, storage.ddr, storage.ssd


def group_too_small(label: str, tables: Sequence[str], need: np.ndarray, capacity: np.ndarray) -> NoPlan:
    """For tables that have to stay on a group of ranks and do not fit there in sum. `need`, `capacity`: [R], of the group."""
    memory = int((need[1:4] - capacity[1:4]).argmax())
    much, room = need[memory + 1] / GIB, capacity[memory + 1] / GIB
    named = ", ".join(tables[:5]) + (f" and {len(tables) - 5} more" if len(tables) > 5 else "")
    return NoPlan(
        f"constraints keep {named} on {label}; that does not fit by {much - room:,.2f} GiB on {label}: at least {much:,.2f} GiB of "
        f"{MEMORY[memory].upper()} are needed there, and {room:,.2f} are free. Allow more hosts for them, or other kernels (UVM).",
        proven=True,
        need=bytes_of(need),
        capacity=bytes_of(capacity),
        memory=MEMORY[memory],
        short=int(need[memory + 1] - capacity[memory + 1]),
    )


def does_not_fit(need: np.ndarray, capacity: np.ndarray, over: float) -> NoPlan:
    """For tables that are too large in sum. `need`, `capacity`: [R]; `over`: share of the capacity that is missing at least."""
    rows = [
        f"{name.upper()} {n / GIB:,.1f} GiB at least, {room / GIB:,.1f} there"
        for name, n, room in zip(MEMORY, need[1:4], capacity[1:4], strict=True)
        if n > 0 or n > room
    ]
    return NoPlan(
        f"the tables do not fit, however they are sharded: {over:.1%} more memory is needed. By itself each memory: "
        f"{'; '.join(rows) or 'enough, but not at once'}. Use more ranks, smaller or bf16 tables, or allow more kernels (UVM).",
        proven=True,
        need=bytes_of(need),
        capacity=bytes_of(capacity),
    )
