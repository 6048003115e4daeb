"""Milliseconds of a step, item by item. In: a Problem and placed options; out: StepTime.

    step = the slowest rank's (lookup + vectors there + vectors back + update + rows fetched from host memory)
           + copies of vectors + dense forward + dense backward + what is left of its all-reduce + dense optimizer
           + what is left of the ids' way + starting the collectives + the host's share + what is measured beside all this

The first line depends on the plan, and is what the search minimises (shard_time.py says why it adds up on a rank); of the others only
the collectives' start and the host's share do, by the number of sharding types in use. Overlap, as TrainPipelineSparseDist and DDP do
it: on a GPU the ids of the next batch travel while this one is computed; gradients of the dense part are reduced while its backward pass
runs; nothing else overlaps. The host's share are the stretches in which a GPU waits for Python: where a batch's sizes come back from
the device, and where a sharded module prepares its calls.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torchrec.distributed.planner.types import ShardingOption

from interformer_rec.planning.cost.cluster import BYTES_PER_MS, Cluster
from interformer_rec.planning.cost.dense_time import dense_time, optimizer_ms
from interformer_rec.planning.cost.load import FLOAT, Job, TableLoad
from interformer_rec.planning.cost.shard_time import SORT, Link, ShardTime, all_reduce, shard_time
from interformer_rec.planning.cost.work import ID
from interformer_rec.planning.question import Problem

FIXED = "optimizer, trainer, waiting"
RANK_ITEMS = ("lookup", "forward", "backward", "update", "fetch", "ids")
# Passes over the vectors that a batch gets: permuted and put side by side; gradients are added to their places.
COPIED, COPIED_BACK, ADDED_BACK = 2, 2, 4
PERMUTED = 6 * ID  # bytes an id that is cut by feature and rank, put in order, and put in order again where it arrives


@dataclass(frozen=True)
class StepTime:
    """One training step, ms. Arrays are (ranks,)."""

    lookup: np.ndarray
    forward: np.ndarray  # vectors to the ranks that need them
    backward: np.ndarray  # their gradients, and the all-reduce of replicated tables
    update: np.ndarray
    fetch: np.ndarray  # rows from host memory
    ids: np.ndarray
    ids_hidden: bool  # behind the rest of the step
    copies: float
    dense_forward: float
    dense_backward: float
    optimizer: float
    all_reduce: Link  # of the gradients of the dense part
    starts: float  # of collectives
    host: float
    fixed: float = 0.0  # what a calibration found beside all this
    beside: Mapping[str, float] = field(default_factory=dict)  # item -> ms that it takes whatever its size

    @property
    def by_rank(self) -> np.ndarray:
        """What a rank's tables take."""
        seen = self.lookup + self.forward + self.backward + self.update + self.fetch
        return seen if self.ids_hidden else seen + self.ids

    @property
    def bottleneck_rank(self) -> int:
        """The rank whose tables take longest."""
        return int(self.by_rank.argmax())

    @property
    def reduce_left(self) -> float:
        """What the all-reduce takes beyond the dense backward pass."""
        return max(0.0, self.all_reduce.total - self.dense_backward)

    @property
    def without_tables(self) -> float:
        """What no placing of the tables changes, as long as their sharding types are the same."""
        dense = self.dense_forward + self.dense_backward + self.reduce_left + self.optimizer
        return self.copies + dense + self.starts + self.host + self.fixed

    @property
    def ids_left(self) -> float:
        """What the ids' way takes beyond the step it hides behind, or all of it where it cannot."""
        if not self.ids_hidden:
            return float(self.ids[self.bottleneck_rank])
        return max(0.0, float(self.ids.max()) - self.without_tables - float(self.by_rank.max()))

    @property
    def items(self) -> dict[str, float]:
        """What a step is the sum of, ms; of tables: on the slowest rank."""
        rank = self.bottleneck_rank
        found = {
            "lookup": float(self.lookup[rank]),
            "all-to-all forward": float(self.forward[rank]),
            "copies of vectors": self.copies,
            "dense forward": self.dense_forward,
            "dense backward": self.dense_backward,
            "all-reduce, not hidden": self.reduce_left,
            "dense optimizer": self.optimizer,
            "all-to-all backward": float(self.backward[rank]),
            "update": float(self.update[rank]),
            "rows from host memory": float(self.fetch[rank]),
            "ids' all-to-all, not hidden": self.ids_left,
            "start of collectives": self.starts,
            "host": self.host,
        }
        found = {name: max(0.0, ms + self.beside.get(name, 0.0)) for name, ms in found.items()}
        return found | ({FIXED: self.fixed} if self.fixed else {})

    @property
    def total(self) -> float:
        """A step, ms."""
        return sum(self.items.values())

    @property
    def serial(self) -> float:
        """A step in which nothing hides behind anything."""
        hidden = float(self.ids.max()) - self.ids_left if self.ids_hidden else 0.0
        return self.total + hidden + self.all_reduce.total - self.reduce_left

    @property
    def bottleneck(self) -> str:
        """The largest item, with its link or rank where it has one."""
        name = max(self.items, key=lambda item: self.items[item])
        if name == "all-reduce, not hidden":
            slow = "inter-node" if self.all_reduce.inter_node > self.all_reduce.intra_node else "intra-node"
            return f"{name} ({slow} link)"
        of_rank = ("lookup", "update", "all-to-all forward", "all-to-all backward", "rows from host memory")
        return f"{name} (rank {self.bottleneck_rank})" if name in of_rank else name


def step_time(problem: Problem, options: Sequence[ShardingOption]) -> StepTime:
    """Estimate a step of a placed plan."""
    cluster, job, ranks = problem.cluster, problem.job, problem.ranks
    by_item = {item: np.zeros(ranks) for item in RANK_ITEMS}
    known: dict[object, ShardTime] = {}
    for option in options:
        table = problem.tables[option.name]
        for start, of_ranks, size in _runs(option):
            key = (problem.alike[option.name], option.sharding_type, option.compute_kernel, size, start == 0)
            if key not in known:
                kind, kernel = option.sharding_type, option.compute_kernel
                known[key] = shard_time(table, kind, kernel, size, job, cluster, start == 0)
            for item, values in by_item.items():
                np.add.at(values, of_ranks, getattr(known[key], item))
    copies, ids = copies_of_batch(problem.tables.values(), job, cluster)
    if cluster.device == "cpu":
        copies += ids
    else:
        by_item["ids"] += ids
    config, dense = problem.config, problem.dense
    forward, backward = problem.dense_ms or dense_time(dense, cluster, config.training.precision)
    return StepTime(
        **by_item,
        ids_hidden=cluster.device != "cpu",
        copies=copies,
        dense_forward=forward,
        dense_backward=backward,
        optimizer=optimizer_ms(problem.dense_parameters, config.optimizer.dense.ema is not None, cluster),
        all_reduce=all_reduce(cluster, ranks, float(problem.dense_parameters * FLOAT)),
        starts=starts_ms(cluster, ranks, sharded_groups(problem.tables, options)),
        host=host_ms(cluster, len(sharded_groups(problem.tables, options)), len(options)),
        fixed=cluster.efficiency.fixed_ms + problem.batch_size * cluster.efficiency.row_us / 1000,
        beside=cluster.efficiency.stage_ms,
    )


def _runs(option: ShardingOption) -> Iterator[tuple[int, list[int], tuple[int, int]]]:
    """Number of the first shard, ranks, size, of neighbours that are alike; the very first shard stands alone."""
    start = 0
    sizes = [
        ((index == 0), (int(s.size[0]), int(s.size[1])), int(s.rank or 0)) for index, s in enumerate(option.shards)
    ]
    for (_, size), run in itertools.groupby(sizes, key=lambda shard: shard[:2]):
        of_ranks = [rank for *_, rank in run]
        yield start, of_ranks, size
        start += len(of_ranks)


def sharded_groups(tables: dict[str, TableLoad], options: Sequence[ShardingOption]) -> set[tuple[bool, str]]:
    """(pooled, sharding type) that TorchRec runs one after the other: each has lookups and collectives of its own."""
    return {(tables[option.name].pooled, option.sharding_type) for option in options}


def host_ms(cluster: Cluster, groups: int, tables: int) -> float:
    """Python's share of a step."""
    efficiency = cluster.efficiency
    return efficiency.step_ms + groups * efficiency.module_ms + tables * efficiency.table_us / 1000


def starts_ms(cluster: Cluster, ranks: int, groups: set[tuple[bool, str]]) -> float:
    """Of the vectors' collectives there and back, and of the last all-reduce."""
    if ranks == 1:
        return 0.0
    near, far = cluster.intra_node_us / 1000, cluster.inter_node_us / 1000
    across = ranks > cluster.devices_per_node
    alone = far * (1 + ranks / 100) if across else near
    total = alone
    for _, sharding in groups:
        if sharding == "data_parallel":
            total += far if across else near
        elif sharding in ("table_row_wise", "grid_shard"):
            total += 2 * (near + (alone if across else 0.0))
        else:
            total += 2 * alone
    return total


def copies_of_batch(tables: Iterable[TableLoad], job: Job, cluster: Cluster) -> tuple[float, float]:
    """Milliseconds in which a rank puts the vectors of its batch where they belong, and of the same for its ids."""
    if job.ranks == 1:
        return 0.0, 0.0
    memory = cluster.hbm_gb_per_s or cluster.ddr_gb_per_s / cluster.devices_per_node
    speed = memory * cluster.efficiency.tensors * BYTES_PER_MS
    vectors = ids = 0.0
    for table in tables:
        count = job.batch_size * table.ids_per_row
        wide = (job.batch_size * len(table.lengths) if table.pooled else count) * table.dim * FLOAT
        vectors += wide * (COPIED + (COPIED_BACK if table.pooled else ADDED_BACK))
        arriving = wide if table.pooled else table.sent_ids(job) * table.dim * FLOAT
        vectors += arriving * sum(job.converted)
        ids += count * (PERMUTED + SORT * table.deduplicated(job))
    return vectors / speed, ids / speed
