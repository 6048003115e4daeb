"""Milliseconds of a shard's work in a step. In: a table's shard, the job and the cluster; out: ShardTime, and TorchRec's Perf of it.

The rank of a shard does, one after the other and on no other rank's account: lookup, sending the vectors, receiving their gradients,
update. Nobody waits for anybody between the end of the dense backward pass and the moment when the vectors of the next batch have
arrived; so these times add up on a rank, and the slowest rank's sum is what tables add to the step. It is what the search minimises.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torchrec.distributed.planner.types import Perf

from interformer_rec.planning.cost.cluster import BYTES_PER_MS, Cluster
from interformer_rec.planning.cost.load import Job, TableLoad
from interformer_rec.planning.cost.work import Work, work

SORT = 160  # bytes an id that the update moves to bring equal ids together: radix sort of keys and places, segments
CACHED = "fused_uvm_caching"  # kernel of tables in host memory with a cache on the device
HALF_SPEED = 128  # bytes of a row that is read at half the speed of an endless one: memory comes in pieces


@dataclass(frozen=True)
class ShardTime:
    """Milliseconds of the shard's rank."""

    lookup: float
    forward: float  # vectors to the ranks that need them
    backward: float  # their gradients; of a replicated table: the all-reduce
    update: float
    fetch: float  # rows between host memory and cache
    ids: float  # that come from the other ranks

    def perf(self, device: str) -> Perf:
        """As TorchRec keeps it; `total` is what the rank's other shards add to. A GPU receives ids while it computes."""
        hidden = 0.0 if device == "cpu" else self.ids
        return Perf(
            self.lookup,
            self.forward + self.ids - hidden,
            self.update,
            self.backward,
            input_dist_comms=hidden,
            prefetch_compute=self.fetch,
        )


def shard_time(
    table: TableLoad, sharding: str, kernel: str, size: Sequence[int], job: Job, cluster: Cluster, first: bool = False
) -> ShardTime:
    """Of a shard of `size` [rows, columns]; `first`: it holds the first rows of a table that is divided by rows."""
    done, speeds = work(table, sharding, size, job, first), _Speeds(cluster, size[1] * table.weight_bytes)
    per_id = done.ids * cluster.efficiency.id_ns * 1e-6
    lookup = done.read / speeds.rows + done.made / speeds.memory + per_id
    gradients = done.ids * size[1] * 4 / speeds.rows + done.ids * SORT / speeds.memory + per_id
    update = gradients + done.state / (speeds.rows * cluster.efficiency.update)
    fetch = 0.0
    if sharding == "data_parallel":
        lookup = done.read / speeds.rows + done.made / speeds.memory + per_id
        update = gradients + done.state / speeds.memory
        return ShardTime(lookup, 0.0, all_reduce(cluster, job.ranks, done.dense).total, update, 0.0, 0.0)
    if kernel == "fused_uvm" and speeds.host:
        lookup, update = lookup + done.read / speeds.host, update + done.state / speeds.host
    if kernel == CACHED and speeds.host:
        fetch = _missing(table, done, size, job) * size[1] * table.weight_bytes * 2 / speeds.host
    there, back = (done.made * passes / speeds.memory for passes in job.converted)
    return ShardTime(
        lookup,
        there + max(done.near / speeds.near, done.far / speeds.far),
        back + max(done.near_back / speeds.near, done.far_back / speeds.far),
        update,
        fetch,
        max(done.near_ids / speeds.near, done.far_ids / speeds.far),
    )


def _missing(table: TableLoad, done: Work, size: Sequence[int], job: Job) -> float:
    """Rows a step that are not in the cache, which keeps the most frequent ones."""
    kept = size[0] * job.cache_share
    return min(done.distinct, done.ids * (1 - table.repeats.head_share(kept, size[0])))


class _Speeds:
    """Bytes a millisecond: through memory, of rows of such a width, over each link, to host memory."""

    def __init__(self, cluster: Cluster, width: float) -> None:
        memory = cluster.hbm_gb_per_s or cluster.ddr_gb_per_s / cluster.devices_per_node
        full = memory * cluster.efficiency.memory * BYTES_PER_MS
        links = cluster.efficiency.links * BYTES_PER_MS
        self.memory = full * speed_of_width(1e9)
        self.rows = full * speed_of_width(width)
        self.near = cluster.intra_node_gb_per_s * links
        self.far = cluster.inter_node_gb_per_s * links
        self.host = (cluster.host_device_gb_per_s or 0.0) * links


def speed_of_width(width: float) -> float:
    """Of reading rows of so many bytes in random order, by that of rows of 512."""
    return (width / (width + HALF_SPEED)) / (512 / (512 + HALF_SPEED))


@dataclass(frozen=True)
class Link:
    """Milliseconds of one collective on both links, which work at once."""

    intra_node: float
    inter_node: float

    @property
    def total(self) -> float:
        """The slower one's."""
        return max(self.intra_node, self.inter_node)


def all_reduce(cluster: Cluster, ranks: int, count: float) -> Link:
    """Of so many bytes on every rank. Ring inside the node, then across: each rank's network port carries its share of the node's part."""
    local, efficiency = cluster.devices_per_node, cluster.efficiency
    links, nodes = (efficiency.reduce or efficiency.links) * BYTES_PER_MS, ranks // cluster.devices_per_node
    near = 2 * count * (local - 1) / local / (cluster.intra_node_gb_per_s * links)
    far = 2 * count * (nodes - 1) / nodes / local / (cluster.inter_node_gb_per_s * links)
    return Link(near, far)
