"""Tables that must lie on one rank. In: options and groups of names; out: options in which a group is one table, and back.

TorchRec's own `dependency` keeps tables on one node at best, and never table-wise ones. A group here is table-wise: one shard
each, so one shard of them all, with the sum of their memory and time.
"""

import copy
from collections.abc import Sequence
from functools import reduce

from torchrec.distributed.planner.types import Shard, ShardingOption

from interformer_rec.errors import InputError

TOGETHER = "table_wise"


def bundle(
    options: Sequence[ShardingOption], groups: Sequence[Sequence[str]]
) -> tuple[list[ShardingOption], dict[str, list[ShardingOption]]]:
    """The search space with one option for each group and kernel, named after its first table, and the groups' members.

    The members are by `name/kernel`. Raises InputError where a table of a group has no table-wise option.
    """
    group_of = {name: group for group in groups for name in group}
    free = [option for option in options if option.name not in group_of]
    members: dict[str, list[ShardingOption]] = {}
    for group in groups:
        kernels = {o.compute_kernel for o in options if o.name == group[0] and o.sharding_type == TOGETHER}
        found = 0
        for kernel in sorted(kernels):
            chosen = [
                o for o in options if o.name in group and (o.sharding_type, o.compute_kernel) == (TOGETHER, kernel)
            ]
            if len(chosen) == len(group):
                members[f"{group[0]}/{kernel}"] = chosen
                free.append(_sum(chosen, group[0]))
                found += 1
        if not found:
            raise InputError(
                f"constraints keep tables {', '.join(group)} together, so they must be {TOGETHER} with one kernel; "
                f"other constraints, or the device, leave at least one of them no such option"
            )
    return free, members


def unbundle(placed: Sequence[ShardingOption], members: dict[str, list[ShardingOption]]) -> list[ShardingOption]:
    """Placed options of the bundled space -> of every table, those of a group on the group's rank."""
    groups = {key.rpartition("/")[0] for key in members}
    result = []
    for option in placed:
        if option.name not in groups:
            result.append(option)
            continue
        for member in members[f"{option.name}/{option.compute_kernel}"]:
            single = copy.copy(member)
            shard = copy.copy(next(iter(member.shards)))
            shard.rank = option.shards[0].rank
            single.shards = [shard]
            result.append(single)
    return result


def _sum(options: Sequence[ShardingOption], name: str) -> ShardingOption:
    shards = [next(iter(option.shards)) for option in options]
    storage = reduce(lambda a, b: a + b, [shard.storage for shard in shards])  # type: ignore[operator,return-value]
    perf = reduce(lambda a, b: a + b, [shard.perf for shard in shards])  # type: ignore[operator,return-value]
    total = copy.copy(options[0])
    total.name = name
    total.shards = [Shard(shards[0].size, shards[0].offset, storage, perf)]
    return total
