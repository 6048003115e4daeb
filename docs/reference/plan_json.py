"""What a plan file holds, in words. In: nothing; out: keys and meanings, for make.py; the keys of a real plan, for its test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# Mappings whose keys are names: how the page writes such a name.
NAMED = {
    "fingerprint.tables": "TABLE",
    "tables": "TABLE",
    "step.what_would_help": "CHANGE",
    "memory.always": "ITEM",
    "memory.dense_stage": "ITEM",
    "memory.exchange": "ITEM",
    "statistics.tables": "TABLE",
    "statistics.sequences": "LIST",
    "sources": "WHAT",
    "assumptions.stage_ms": "ITEM",
}
# Of a run's plan.json as well; the others are estimates, which `interformer plan` makes.
OF_A_RUN = {
    "format": "1; another number is an error",
    "version": "of the package that wrote the file",
    "name": "of the run config",
    "fingerprint.tables.TABLE.rows": "special rows included",
    "fingerprint.tables.TABLE.dim": "numbers of a row",
    "fingerprint.tables.TABLE.dtype": "of a number: `float32`, or `float16` in a what-if",
    "fingerprint.tables.TABLE.pooled": "looked up as a bag, not as a history",
    "fingerprint.ranks": "for how many ranks the plan is",
    "fingerprint.ranks_per_node": "how many of them share a node",
    "fingerprint.device": "`cuda` or `cpu`",
    "cluster": "name of the cluster; of a run's plan `the run's machines`",
    "nodes": "how many",
    "batch_size": "rows a rank and step",
    "tables.TABLE.sharding": "TorchRec's sharding type",
    "tables.TABLE.kernel": "TorchRec's kernel: `fused`, `dense`, `fused_uvm` or `fused_uvm_caching`",
    "tables.TABLE.shards": "list of [rank, first row, first column, rows, columns]",
    "sharding.deduplicate": "histories' tables: each distinct id is sent and looked up once per batch and rank; `train` does so",
    "sharding.communication": "precision of vectors on their way: `fp32`, `fp16` or `bf16`; `train` takes it",
    "sharding.host_cache": "share of their rows that tables in host memory have in a cache on the device; null: none lies there",
    "notes": "sentences, for example about tables that cannot have the type of `sharding.default`",
}
ESTIMATES = {
    "reserve": "share of device memory kept free",
    "exchanges.tried[].deduplicate": "another exchange that was looked at",
    "exchanges.tried[].communication": "its precision",
    "exchanges.tried[].how": "`planned`: searched for; `at least`: no plan is faster; `the same plan`: it is not allowed",
    "exchanges.tried[].step_ms": "a step with it; null: no plan fits",
    "exchanges.why": "a sentence on each of them",
    "tables.TABLE.ms": "lookup, exchange and update of a step, summed over ranks",
    "tables.TABLE.ids_per_row": "ids that a row of the batch reads from it, mean",
    "tables.TABLE.device_bytes": "in memory of devices, all ranks",
    "tables.TABLE.host_bytes": "in memory of hosts, all ranks",
    "tables.TABLE.kept_on": "hosts or ranks that constraints keep it on; empty: anywhere",
    "tables.TABLE.rejected[].sharding": "an option that the table did not get",
    "tables.TABLE.rejected[].kernel": "its kernel",
    "tables.TABLE.rejected[].reason": "why not, a sentence",
    "tables.TABLE.rejected[].slowest_ms": "what it would add to the slowest rank; null: impossible",
    "tables.TABLE.rejected[].all_ms": "what it would add to the sum of all ranks; null: impossible",
    "step.lookup": "ms, on the rank whose tables take longest",
    "step.all-to-all forward": "ms, vectors to the ranks that need them",
    "step.copies of vectors": "ms in which a rank puts the vectors of its batch, and their gradients, where they belong",
    "step.dense forward": "ms, the model without its tables",
    "step.dense backward": "ms",
    "step.all-reduce, not hidden": "ms beyond the backward pass that it runs beside",
    "step.all-to-all backward": "ms, gradients of the vectors",
    "step.dense optimizer": "ms of Adam on the dense part",
    "step.rows from host memory": "ms in which a cache on the device gets its rows",
    "step.start of collectives": "ms, whatever they carry",
    "step.host": "ms in which a device waits for Python",
    "step.update": "ms, on the rank whose tables take longest",
    "step.ids' all-to-all, not hidden": "ms beyond the step that it runs beside",
    "step.optimizer, trainer, waiting": "ms that a calibration found beside all others; absent without one",
    "step.total": "the sum of the items above, ms",
    "step.expected": "[low, high], ms in which a measured step is expected",
    "step.how_sure": "what that is known from",
    "step.bottleneck": "the largest item, with the link or rank",
    "step.bottleneck_ms": "its milliseconds",
    "step.price_per_million_samples": "in the currency of `--price`; null: the cluster has no price",
    "step.bottleneck_rank": "the rank whose tables take longest",
    "step.samples_per_second": "of the whole job",
    "step.what_would_help.CHANGE": "ms of a step with that change, where it is 1% less or better",
    "step.lookup_by_rank": "ms of each rank",
    "step.update_by_rank": "ms of each rank",
    "step.exchange_by_rank": "ms of each rank, vectors and gradients",
    "step.tables_by_rank": "ms of each rank, all of its tables",
    "sent.near": "bytes of vectors that each rank sends to its node",
    "sent.far": "bytes of vectors that each rank sends to other nodes",
    "sent.near_back": "bytes of their gradients that come back to it from its node",
    "sent.far_back": "bytes of their gradients that come back to it from other nodes",
    "sent.near_ids": "bytes of ids that it gets from its node",
    "sent.far_all_reduce": "bytes that a rank sends to the next node in all-reduces: dense part, replicated tables",
    "sent.far_ids": "bytes of ids that it gets from other nodes",
    "search.tables_ms": "of a step, what tables take on the slowest rank",
    "search.step_bound_ms": "no plan has a shorter step by this count; 0: not known",
    "search.seconds": "the search took",
    "memory.capacity": "bytes of a device",
    "memory.host_capacity": "bytes of host memory that a rank's tables may use",
    "memory.usable": "bytes of a device without the reserve",
    "memory.moment": "when the fullest rank has most: `dense_stage` (the dense backward pass begins) or `exchange` (vectors travel)",
    "memory.peak": "bytes of each rank at its fuller moment",
    "memory.evaluation_peak": "bytes of each rank in an evaluation; empty: the config names no data to evaluate",
    "memory.evaluation_rows": "rows a rank and batch of one",
    "memory.host": "bytes in host memory, of each rank",
    "memory.always.ITEM": "bytes of each rank, all the time",
    "memory.dense_stage.ITEM": "bytes of each rank that the dense backward pass adds",
    "memory.exchange.ITEM": "bytes of each rank that the exchange of vectors adds",
    "statistics.tables.TABLE.rows": "as in a run's data.json, so that the file works as `--statistics`",
    "statistics.tables.TABLE.distinct": "[ids in a batch, distinct ones among them], where ids were counted",
    "statistics.tables.TABLE.head": "[rows, share of all ids that the so many most frequent ones are], where ids were counted",
    "statistics.sequences.LIST.mean": "elements a row has of a history or bag",
    "statistics.sequences.LIST.p50": "their median",
    "statistics.sequences.LIST.p95": "95th percentile",
    "statistics.sequences.LIST.p99": "99th percentile",
    "statistics.sequences.LIST.max": "the longest",
    "statistics.sequences.LIST.empty": "share of rows that have none",
    "assumptions_from": "assumed, or by which run measured",
    "sources.WHAT": "where a size is from",
}


def paths(value: Any, prefix: str = "", named: Mapping[str, str] = NAMED) -> Iterator[str]:
    """Every key of a JSON file as its page writes it: `a.b` below a, `a[].b` in each entry of a list of mappings, names by their kind."""
    if isinstance(value, dict) and (value or prefix not in named):
        for name, inner in value.items():
            yield from paths(inner, ".".join(filter(None, [prefix, named.get(prefix, name)])), named)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for inner in value:
            yield from paths(inner, f"{prefix}[]", named)
    elif not isinstance(value, dict):
        yield prefix
