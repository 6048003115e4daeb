"""What the cost of a table depends on. In: the run config and sizes, through question.py; out: Job and TableLoad."""

from dataclasses import dataclass
from typing import Literal

from interformer_rec.planning.cost.cluster import Overhead
from interformer_rec.planning.cost.lengths import Lengths
from interformer_rec.planning.cost.repeats import Repeats

FLOAT = 4
CACHE_SHARE = 0.2  # TorchRec's default cache_load_factor of fused_uvm_caching
ASSUMED = Overhead()
STATE = {  # bytes of optimizer state a row and a number
    "rowwise_adagrad": (FLOAT, 0),
    "adagrad": (0, FLOAT),
    "sgd": (0, 0),
    "adam": (0, 2 * FLOAT),
}
UNIFORM = Repeats()


@dataclass(frozen=True)
class Job:
    """Size of the job, and how it exchanges vectors."""

    ranks: int
    local_ranks: int
    batch_size: int
    device: str
    overhead: Overhead = ASSUMED  # the cluster's
    cache_share: float = CACHE_SHARE  # sharding.host_cache
    train_rows: int | None = None  # where they are known: small data fill no shuffle buffers
    deduplicate: bool = False  # sharding.deduplicate
    communication: Literal["fp32", "fp16", "bf16"] = "fp32"  # sharding.communication

    @property
    def vector_bytes(self) -> tuple[int, int]:
        """Of a number on its way between ranks: of a vector, and of its gradient."""
        return (FLOAT, FLOAT) if self.communication == "fp32" else (2, 2)

    @property
    def converted(self) -> tuple[float, float]:
        """Bytes read and written to convert a vector that is sent or received, by its bytes in fp32; and a gradient."""
        if self.ranks == 1 or self.communication == "fp32":
            return 0.0, 0.0
        there, back = self.vector_bytes
        return 1 + there / FLOAT, 1 + back / FLOAT


@dataclass(frozen=True)
class TableLoad:
    """A table and what a row of the batch reads from it."""

    name: str
    rows: int
    dim: int
    pooled: bool
    lengths: tuple[Lengths, ...]  # of each feature that reads it
    optimizer: str
    weight_bytes: int = FLOAT
    repeats: Repeats = UNIFORM
    ordered: bool = False  # by how frequent the ids are: a vocabulary

    def ids(self, rows: int, job: Job | None = None) -> float:
        """Ids that a batch of `rows` rows brings, 99 of 100 times at most; with a job, those that are sent."""
        count = sum(length.batch_total(rows) for length in self.lengths)
        return self.repeats.of(count, self.rows) if job is not None and self.deduplicated(job) else count

    @property
    def ids_per_row(self) -> float:
        """Mean."""
        return sum(length.mean for length in self.lengths)

    def sent_ids(self, job: Job) -> float:
        """Ids that a rank's batch asks the owners for, mean."""
        count = job.batch_size * self.ids_per_row
        return self.repeats.of(count, self.rows) if self.deduplicated(job) else count

    def hot_share(self, rows: int, parts: int, job: Job) -> float:
        """Of all ids that are sent, the share of the busiest of `parts` pieces of so many rows each."""
        evenly = rows / self.rows
        if not self.repeats.head or parts == 1:
            return evenly
        first = self.repeats.head_share(rows, self.rows)
        if not self.ordered:  # somebody has the most frequent id
            top = self.repeats.head_share(1, self.rows)
            first = top + (1 - top) * evenly
        if self.deduplicated(job):  # each rank asks once
            there = UNIFORM.of(first * job.batch_size * self.ids_per_row, rows)
            first = there / max(self.sent_ids(job), 1e-9)
        return min(1.0, max(evenly, first))

    def deduplicated(self, job: Job) -> bool:
        """Does a rank ask for each distinct id once? TorchRec has no such form for pooled tables."""
        return job.deduplicate and not self.pooled


def owners(sharding: str, job: Job) -> int:
    """Over how many ranks the rows of a table are divided."""
    return {"row_wise": job.ranks, "table_row_wise": job.local_ranks, "grid_shard": job.local_ranks}.get(sharding, 1)
