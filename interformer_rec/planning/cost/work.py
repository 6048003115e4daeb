"""What a shard does in a step: ids and vectors that it receives, reads, sends and updates. In: a table's shard and the job; out: Work.

Legend: N ranks, L ranks a node, B rows of the batch of one rank, G = N B. A pooled table's shard makes a vector a row and feature of the
global batch; divided by rows it makes them all, as partial sums, even where it holds no row, because a reduce-scatter has no empty part.
A history's table (jagged) makes a vector an id, or with deduplication a vector a distinct id and rank; then a rank without rows
receives no ids and sends nothing. Divided by rows, a shard gets the ids of its rows: the first one has the most frequent ones of a
vocabulary, the others share the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from interformer_rec.planning.cost.load import STATE, Job, TableLoad, owners

ID, LENGTH = 8, 4  # bytes of an id, and of a row's length, on their way
BY_ROWS = ("row_wise", "table_row_wise", "grid_shard")
BY_COLUMNS = ("column_wise", "table_column_wise", "grid_shard")


@dataclass(frozen=True)
class Work:
    """Of one shard, for one global batch. Bytes unless said; what is sent forward comes back as gradients."""

    ids: float  # that its rank receives for it, a number
    distinct: float  # rows that are updated, a number
    read: float  # of table rows
    made: float  # vectors, in fp32
    near: float  # vectors to other ranks of the node
    far: float  # vectors to other nodes
    near_back: float  # their gradients
    far_back: float
    near_ids: float  # ids and lengths from other ranks of the node
    far_ids: float
    state: float  # of weights and optimizer state that the update reads and writes
    dense: float  # a replicated table's gradient, which all ranks add up


def shares(sharding: str, ranks: int, local: int) -> tuple[float, float]:
    """Of the vectors that a shard's owner makes: the share for the other ranks of its node, and for other nodes.

    table_row_wise and grid first add up inside the node, so only one rank's worth goes on to other nodes.
    """
    if sharding in ("table_row_wise", "grid_shard"):
        return (local - 1) / local, (ranks - local) / ranks / local
    return (local - 1) / ranks, (ranks - local) / ranks


def work(table: TableLoad, sharding: str, size: Sequence[int], job: Job, first: bool = False) -> Work:
    """Of a shard of `size` [rows, columns]; `first`: it holds the first rows of a table that is divided by rows."""
    rows, columns = size
    if sharding == "data_parallel":
        return _replicated(table, job)
    share = _share(table, sharding, rows, job, first)
    batch = table.sent_ids(job)  # of one rank
    ids = job.ranks * batch * share
    asked = rows * columns > 0
    features, everyone = len(table.lengths), job.ranks * job.batch_size
    vectors = everyone * features if table.pooled else ids
    if not asked and not (table.pooled and sharding in BY_ROWS):
        vectors = 0.0
    near, far = shares(sharding, job.ranks, job.local_ranks)
    arriving = (ids * ID + features * everyone * LENGTH) if asked else 0.0
    from_node, from_far = (job.local_ranks - 1) / job.ranks, (job.ranks - job.local_ranks) / job.ranks
    distinct = min(
        float(rows), ids, table.repeats.of(job.ranks * job.batch_size * table.ids_per_row, table.rows) * share
    )
    per_row, per_number = STATE[table.optimizer]
    forward, backward = job.vector_bytes
    return Work(
        ids=ids if asked else 0.0,
        distinct=distinct if asked else 0.0,
        read=ids * columns * table.weight_bytes if asked else 0.0,
        made=vectors * columns * 4,
        near=vectors * columns * forward * near,
        far=vectors * columns * forward * far,
        near_back=vectors * columns * backward * near,
        far_back=vectors * columns * backward * far,
        near_ids=arriving * from_node,
        far_ids=arriving * from_far,
        state=2 * distinct * (columns * (table.weight_bytes + per_number) + per_row) if asked else 0.0,
        dense=0.0,
    )


def _share(table: TableLoad, sharding: str, rows: int, job: Job, first: bool) -> float:
    """Of the ids of a table that are of so many of its rows."""
    if sharding not in BY_ROWS or table.rows == 0:
        return 1.0
    evenly = rows / table.rows
    if not 0 < rows < table.rows:
        return evenly
    hot = table.hot_share(rows, owners(sharding, job), job)
    if first:
        return hot
    return evenly * (1 - hot) / (1 - evenly)


def _replicated(table: TableLoad, job: Job) -> Work:
    """Every rank reads its own batch, and all of them add up the gradient of the whole table."""
    ids = job.batch_size * table.ids_per_row
    numbers = table.rows * table.dim
    per_row, per_number = STATE[table.optimizer]
    vectors = job.batch_size * len(table.lengths) if table.pooled else ids
    return Work(
        ids=ids,
        distinct=float(table.rows),
        read=ids * table.dim * table.weight_bytes,
        made=vectors * table.dim * 4,
        near=0.0, far=0.0, near_back=0.0, far_back=0.0, near_ids=0.0, far_ids=0.0,
        # written as zeros, added to, read and written by the optimizer with all weights and state
        state=numbers * (4 * 4 + 2 * (table.weight_bytes + per_number)) + 2 * table.rows * per_row,
        dense=float(numbers * 4),
    )  # fmt: skip
