"""Why there is no plan. In: what was needed and what there is; out: NoPlan, whose message has the numbers that explain it."""

from collections.abc import Sequence

import numpy as np
from torchrec.distributed.planner.types import ShardingOption

from interformer_rec.errors import InputError
from interformer_rec.planning.search.rank_groups import RankGroup
from interformer_rec.text import GIB

MEMORY = ("hbm", "ddr", "ssd")


class NoPlan(InputError):
    """No placement of the tables was found. `proven`: there is none; otherwise the search only did not find one."""

    def __init__(self, message: str, proven: bool = False) -> None:
        super().__init__(message)
        self.proven = proven


def no_option_fits(options: Sequence[ShardingOption], capacity: np.ndarray, group: RankGroup | None = None) -> NoPlan:
    """For a table whose every option has a shard that no rank can hold. `capacity`: [W, R]; `group`: where it has to stay."""
    closest: list[tuple[float, ShardingOption, int, int]] = []
    numbers = list(group.ranks) if group else list(range(len(capacity)))
    memories, only = capacity[numbers, 1:4], f" of {group.label}, as constraints want," if group else ","
    for option in options:
        needs = np.array([[getattr(shard.storage, name) for name in MEMORY] for shard in option.shards], dtype=float)
        over = needs.max(axis=0) - memories  # [W, memory]
        rank = int(over.max(axis=1).argmin())
        memory = int(over[rank].argmax())
        closest.append((over[rank, memory], option, rank, memory))
    short, option, rank, memory = min(closest, key=lambda found: found[0])
    kind = f"{option.sharding_type}, {option.compute_kernel}"
    room = int(memories[rank, memory])
    if short > 0:
        need = f"{(room + int(short)) / GIB:.2f} GiB {MEMORY[memory].upper()}"
        why = f"closest is {kind}: a shard of {need} on rank {numbers[rank]}{only} which has {room / GIB:.2f}"
    else:
        why = f"{kind} has {option.num_shards} shards, which do not go onto {group.label if group else f'{len(capacity)} ranks'}"
    return NoPlan(
        f"table {option.name!r} ({option.tensor.shape[0]:,} x {option.tensor.shape[1]}) fits in none of its "
        f"{len(options)} sharding options; {why}. Allow more sharding types or kernels for it, use more ranks, or shrink it.",
        proven=True,
    )


def group_too_small(label: str, tables: Sequence[str], need: np.ndarray, capacity: np.ndarray) -> NoPlan:
    """For tables that have to stay on a group of ranks and do not fit there in sum. `need`, `capacity`: [R], of the group."""
    memory = int((need[1:4] - capacity[1:4]).argmax())
    much, room = need[memory + 1] / GIB, capacity[memory + 1] / GIB
    named = ", ".join(tables[:5]) + (f" and {len(tables) - 5} more" if len(tables) > 5 else "")
    return NoPlan(
        f"constraints keep {named} on {label}; that does not fit by {much - room:,.2f} GiB on {label}: at least {much:,.2f} GiB of "
        f"{MEMORY[memory].upper()} are needed there, and {room:,.2f} are free. Allow more hosts for them, or other kernels (UVM).",
        proven=True,
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
    )
