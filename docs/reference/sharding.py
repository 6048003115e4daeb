"""Which table may be sharded how, for its page. In: the rules of distributed/sharding_types.py; out: rows of Markdown tables."""

from __future__ import annotations

from interformer_rec.distributed.sharding_types import (
    HOST_KERNELS,
    KERNELS,
    SHARDING_TYPES,
    not_automatic,
    not_possible,
)

KINDS = {True: "Tables of ids and bags", False: "Tables that a history reads"}
HEAD = "| sharding type | kernels on a CPU | kernels on CUDA | the planner chooses it |\n|---|---|---|---|"
WIDTHS, MANY = range(4, 1025, 4), 1024  # embedding_dim; ranks
MEANINGS = {
    "data_parallel": "every rank has the whole table, and gradients are reduced",
    "table_wise": "one rank has the table",
    "row_wise": "every rank has a range of rows",
    "column_wise": "several ranks have some floats of every row",
    "table_row_wise": "the ranks of one host have a range of rows each",
    "table_column_wise": "column_wise inside one host",
    "grid_shard": "cut by columns over hosts and by rows inside each",
    "fused": "rows in the device's memory, updated inside the backward kernel",
    "dense": "rows in the device's memory, updated by an optimizer of torch: data_parallel only",
    "fused_uvm": "rows in host memory, read through the bus",
    "fused_uvm_caching": "rows in host memory, a cache of them on the GPU (`sharding.host_cache`)",
}


def kernels(pooled: bool, sharding: str, device: str) -> str:
    """Those that there are, or why there is none."""
    if (reason := not_possible(pooled, sharding, device)) is not None:
        return f"no: {reason}"
    found = [kernel for kernel in (*KERNELS, *HOST_KERNELS) if not_possible(pooled, sharding, device, kernel) is None]
    return ", ".join(f"`{kernel}`" for kernel in found)


def chosen(pooled: bool, sharding: str) -> str:
    """When `auto` may mean this type."""
    if all(not_possible(pooled, sharding, device) is not None for device in ("cpu", "cuda")):
        return "no"
    width = next((dim for dim in WIDTHS if not_automatic(sharding, dim, MANY) is None), None)
    if width is None:
        return str(not_automatic(sharding, WIDTHS[-1], MANY))
    ranks = next(count for count in range(1, MANY) if not_automatic(sharding, width, count) is None)
    limits = [f"from rows of {width} floats: {not_automatic(sharding, width - 4, MANY)}"] if width > WIDTHS[0] else []
    limits += [f"from {ranks} ranks: {not_automatic(sharding, width, ranks - 1)}"] if ranks > 1 else []
    limits += [f"not with Adam: {reason}"] if (reason := not_automatic(sharding, width, MANY, "adam")) else []
    return "; ".join(limits) or "yes"


def rows(pooled: bool) -> list[str]:
    """One a sharding type."""
    return [
        f"| `{one}` | {kernels(pooled, one, 'cpu')} | {kernels(pooled, one, 'cuda')} | {chosen(pooled, one)} |"
        for one in SHARDING_TYPES
    ]


def meanings() -> list[str]:
    """One a sharding type, and one a kernel."""
    return [f"| `{name}` | {MEANINGS[name]} |" for name in (*SHARDING_TYPES, *KERNELS, *HOST_KERNELS)]
