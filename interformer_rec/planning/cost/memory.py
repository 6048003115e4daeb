"""Bytes on a rank, item by item. In: a table's shard, or the placed plan; out: what it holds of weights, optimizer state, buffers.

A step has two moments of high memory, and a rank's peak is the larger of them:

    exchange      tables are read, vectors travel: send buffers and received vectors are alive, no activations
    dense_stage   InterFormer's backward pass has just begun: all activations are alive, send buffers are not

With TrainPipelineSparseDist the ids of two batches have arrived at the tables' owners (the one computed and the next), and three
batches lie on the device as they came from the loader (the one after next is being copied). Ids are int64; KeyedJaggedTensor
keeps int32 lengths and int64 offsets a row and key. Buffers are sized for a batch that 99 of 100 stay below (Lengths.batch_total).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torchrec.distributed.planner.types import ShardingOption, Storage

from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.run import RunConfig
from interformer_rec.planning.cost.dense import DenseCost
from interformer_rec.planning.cost.load import FLOAT, STATE, Job, TableLoad, owners
from interformer_rec.planning.cost.loader_memory import loader_bytes
from interformer_rec.planning.cost.sizes import Sizes

ID, LENGTH = 8, 12  # bytes of an id; of a row's length and offset
DISTRIBUTED, LOADED = 2, 3  # batches whose ids are at the owners; batches on the device
# Gradients under way beside the activations, as their share: 0.06 to 0.13 measured on CPU.
BACKWARD_WORK = 0.12
# CPU: free memory that glibc's malloc has not given back to the system when the backward pass begins, as a share of the activations,
# measured: docs/decisions/0010. None is left with MALLOC_MMAP_THRESHOLD_=65536, but then every tensor is made of fresh pages.
KEPT = 0.5
SORT = 40  # bytes an id while gradients of equal ids are added up: keys, positions, both again for the sort, segments
# Context and NCCL buffers, assumed; on CPU Python and its libraries before the model, measured.
RUNTIME = {"cuda": 1536 << 20, "cpu": 545 << 20}
DECODING = "rows being decoded"
IDS, LOADED_BATCHES = "ids at the owners", "batches as loaded"
HOLES = f"free memory kept by malloc, or {DECODING}"
FIRST_STEP = 45 << 20  # CPU: code that is first used in a step, TorchRec's sharded modules


@dataclass(frozen=True)
class ShardBytes:
    """One shard's memory: `host` is in host memory (UVM kernels), the rest on the device."""

    weights: int = 0
    state: int = 0
    gradient: int = 0  # of a data-parallel table: whole, dense, in DDP's buckets
    cache: int = 0  # of a cached UVM table
    inputs: int = 0
    host: int = 0

    @property
    def device(self) -> int:
        """On the device."""
        return self.weights + self.state + self.gradient + self.cache + self.inputs


def shard_bytes(table: TableLoad, sharding: str, kernel: str, size: Sequence[int], job: Job) -> ShardBytes:
    """Memory of a shard of `size` [rows, columns]."""
    rows, columns = size
    weights = rows * columns * table.weight_bytes
    per_row, per_number = STATE[table.optimizer]
    state = rows * per_row + rows * columns * per_number
    inputs = round(DISTRIBUTED * owner_input(table, sharding, job)) if rows * columns else 0
    if sharding == "data_parallel":
        return ShardBytes(weights=weights, state=state, gradient=weights)
    if kernel == "fused_uvm":
        return ShardBytes(inputs=inputs, host=weights + state)
    if kernel == "fused_uvm_caching":
        # 4 bytes a row map the cache, 16 a slot hold its ids and ages (FBGEMM)
        cache = round(job.cache_share * (weights + state + 16 * rows)) + 4 * rows
        return ShardBytes(cache=cache, inputs=inputs, host=weights + state)
    return ShardBytes(weights=weights, state=state, inputs=inputs)


def owner_ids(table: TableLoad, sharding: str, job: Job) -> float:
    """Ids of a global batch that one shard's owner receives (99 of 100 times at most)."""
    apart = table.deduplicated(job)
    everyone = job.ranks * table.ids(job.batch_size, job) if apart else table.ids(job.ranks * job.batch_size)
    return everyone / owners(sharding, job)


def owner_input(table: TableLoad, sharding: str, job: Job) -> float:
    """Bytes of one batch's ids and lengths at a shard's owner; a row-wise owner has lengths for every row of the global batch too."""
    if sharding == "data_parallel":
        return 0.0
    return owner_ids(table, sharding, job) * ID + len(table.lengths) * job.ranks * job.batch_size * LENGTH


def exchange_bytes(table: TableLoad, sharding: str, size: Sequence[int], job: Job) -> int:
    """Looked-up vectors of a shard before they are sent (or their gradients that came back), and the sort of its ids."""
    if sharding == "data_parallel" or not size[0] * size[1]:
        return 0
    ids = owner_ids(table, sharding, job)
    vectors = len(table.lengths) * job.ranks * job.batch_size if table.pooled else ids
    return round(vectors * size[1] * FLOAT + ids * SORT)


def storage(parts: ShardBytes, device: str, alive: int = 0) -> Storage:
    """As TorchRec's partitioners read it."""
    on_device = parts.device + alive
    return Storage(hbm=0, ddr=on_device + parts.host) if device == "cpu" else Storage(hbm=on_device, ddr=parts.host)


@dataclass(frozen=True)
class ConstantBytes:
    """Memory of a rank that no plan changes, by item."""

    items: dict[str, int]  # alive all the time
    dense_items: dict[str, int]  # alive at the start of the dense backward pass
    exchange_items: dict[str, int]  # alive while vectors travel

    @property
    def always(self) -> int:
        """Sum of what is always there."""
        return sum(self.items.values())

    @property
    def dense_stage(self) -> int:
        """Sum of what the dense stage adds."""
        return sum(self.dense_items.values())

    @property
    def exchange(self) -> int:
        """Sum of what the exchange adds."""
        return sum(self.exchange_items.values())


def batch_bytes(features: FeatureSchema, sizes: Sizes, rows: int) -> float:
    """Of one batch of so many rows as it comes from the loader."""
    lookups = (*features.pooled_lookups, *features.jagged_lookups)
    ids = sum(sizes.of_lookup(lookup.key).batch_total(rows) for lookup in lookups)
    times = sum(sizes.of_lookup(group.name).batch_total(rows) for group in features.sequences if group.timestamp)
    numbers = len(features.dense) + len(features.labels) + 3  # weight and group key beside them
    return (ids + times) * ID + len(lookups) * rows * LENGTH + rows * numbers * FLOAT


def constant_bytes(config: RunConfig, job: Job, sizes: Sizes, dense: DenseCost, parameters: int) -> ConstantBytes:
    """Dense part, batches as loaded, runtime."""
    batch = batch_bytes(config.features, sizes, job.batch_size)
    runtime = job.overhead.runtime_mib
    items = {
        "runtime": RUNTIME[job.device] if runtime is None else round(runtime * (1 << 20)),
        "dense parameters": parameters * FLOAT,
        # DDP is made with gradient_as_bucket_view: gradients are views of its buckets
        "dense gradients and DDP buckets": parameters * FLOAT,
        "dense optimizer (Adam, two moments)": 2 * parameters * FLOAT,
        LOADED_BATCHES: round(LOADED * batch),
    }
    if config.optimizer.dense.ema is not None:
        items["moving average of the dense parameters"] = parameters * FLOAT
    dense_items = {
        **{f"activations: {block}": count for block, count in dense.activations.items()},
        "work space of the backward pass": round(BACKWARD_WORK * dense.activation_bytes),
    }
    exchange_items = {"received vectors, then side by side": 2 * dense.looked_up}
    if job.device == "cpu":  # the host's memory is the device's
        loader = loader_bytes(config, sizes, job.ranks, job.train_rows)
        kept = KEPT if job.overhead.kept is None else job.overhead.kept
        items["code and records of the first step"] = FIRST_STEP
        items["rows decoded by the loader"] = loader.decoded + round(loader.batches_ahead * batch)
        # one heap: what malloc keeps serves the next rows, and what decoding has freed serves activations
        dense_items[HOLES] = max(loader.decoding, round(kept * dense.activation_bytes))
        exchange_items[DECODING] = loader.decoding
    return ConstantBytes(items, dense_items, exchange_items)


@dataclass(frozen=True)
class RankMemory:
    """Of every rank: (ranks,) bytes by item. `peak` is the larger of the two moments, `capacity` what a device has in all."""

    always: dict[str, np.ndarray]
    dense_stage: dict[str, np.ndarray]
    exchange: dict[str, np.ndarray]
    host: np.ndarray
    capacity: int
    host_capacity: int

    @property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """(ranks,) bytes at the start of the dense backward pass, and while vectors travel."""
        always = _sum(self.always)
        return always + _sum(self.dense_stage), always + _sum(self.exchange)

    @property
    def peak(self) -> np.ndarray:
        """(ranks,) bytes."""
        return np.maximum(*self.moments)

    @property
    def moment(self) -> str:
        """Which moment the fullest rank's peak is."""
        rank = int(self.peak.argmax())
        dense, exchange = self.moments
        return "dense_stage" if dense[rank] >= exchange[rank] else "exchange"


def _sum(items: dict[str, np.ndarray]) -> np.ndarray:
    return np.sum(list(items.values()), axis=0)


def rank_memory(
    options: Sequence[ShardingOption],
    tables: dict[str, TableLoad],
    job: Job,
    constant: ConstantBytes,
    capacity: tuple[int, int],
) -> RankMemory:
    """Itemised memory of a placed plan; `capacity`: bytes of a device and a rank's share of host memory."""
    names = (
        "table weights",
        "table optimizer state",
        "gradients of data-parallel tables",
        "caches of UVM tables",
        IDS,
    )
    always = {name: np.zeros(job.ranks) for name in names}
    sent, host = np.zeros(job.ranks), np.zeros(job.ranks)
    for option in options:
        table = tables[option.name]
        for shard in option.shards:
            parts = shard_bytes(table, option.sharding_type, option.compute_kernel, shard.size, job)
            for name, value in zip(
                names, (parts.weights, parts.state, parts.gradient, parts.cache, parts.inputs), strict=True
            ):
                always[name][shard.rank] += value
            host[shard.rank] += parts.host
            sent[shard.rank] += exchange_bytes(table, option.sharding_type, shard.size, job)

    def everywhere(items: dict[str, int]) -> dict[str, np.ndarray]:
        return {name: np.full(job.ranks, float(count)) for name, count in items.items()}

    always |= everywhere(constant.items)
    exchange = {"vectors to send, sort of ids": sent, **everywhere(constant.exchange_items)}
    return RankMemory(always, everywhere(constant.dense_items), exchange, host, *capacity)
