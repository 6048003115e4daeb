"""Shards with our estimates. In: an option of TorchRec's enumerator, its table, job and cluster; out: Shards with time and memory."""

from collections.abc import Sequence

from torchrec.distributed.planner.types import Shard, ShardingOption

from interformer_rec.planning.cost.cluster import Cluster
from interformer_rec.planning.cost.load import Job, TableLoad
from interformer_rec.planning.cost.memory import exchange_bytes, shard_bytes, storage
from interformer_rec.planning.cost.shard_time import shard_time
from interformer_rec.planning.cost.work import BY_ROWS
from interformer_rec.planning.search.options import ShardRuns


def weighed(
    option: ShardingOption, table: TableLoad, job: Job, cluster: Cluster, exchange: bool = False
) -> Sequence[Shard]:
    """Ranks stay; `exchange`: memory counts send buffers."""
    kind, kernel = option.sharding_type, option.compute_kernel

    def weigh(shard: Shard, first: bool) -> Shard:
        parts = shard_bytes(table, kind, kernel, shard.size, job)
        alive = exchange_bytes(table, kind, shard.size, job) if exchange else 0
        perf = shard_time(table, kind, kernel, shard.size, job, cluster, first).perf(job.device)
        return Shard(shard.size, shard.offset, storage(parts, job.device, alive), perf, shard.rank)

    if not isinstance(option.shards, ShardRuns):
        return [weigh(shard, number == 0) for number, shard in enumerate(option.shards)]
    runs = []
    for number, (count, shard) in enumerate(option.shards.runs):
        alone = number == 0 and count > 1 and table.repeats.head and kind in BY_ROWS
        if alone:  # the first rows are those of the most frequent ids
            runs.append((1, weigh(shard, True)))
        runs.append((count - bool(alone), weigh(shard, number == 0 and not alone)))
    return ShardRuns(runs, option.shards._offsets)
