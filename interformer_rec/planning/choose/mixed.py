"""Clusters by name, also of several kinds of nodes: `dgx-a100-80*2+dgx-h100*2`. In: names and prices; out: Clusters.

All ranks wait for each other in every step, so the slowest group bounds it. Such a cluster has, number by number, what the slowest of its
kinds has: memory, bandwidths, rates. A plan for it is one that each of its nodes can carry out, and its step an upper bound.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from interformer_rec.errors import InputError
from interformer_rec.planning.cost.cluster import Cluster, Efficiency, load_cluster

PART = re.compile(r"(.+)\*(\d{1,6})")
LESS_IS_SLOWER = (
    "hbm_gib", "ddr_gib", "hbm_gb_per_s", "ddr_gb_per_s", "host_device_gb_per_s", "intra_node_gb_per_s", "inter_node_gb_per_s",
    "bf16_tflops", "fp32_tflops",
)  # fmt: skip
MORE_IS_SLOWER = ("intra_node_us", "inter_node_us")
SHARES = ("memory", "update", "links", "reduce", "matmul", "tensors")  # of an Efficiency; its other numbers take time


def clusters_named(names: Sequence[str], prices: Mapping[str, float]) -> dict[str, Cluster]:
    """Every cluster that is asked about, by the user's name of it; `prices`: a node's, by the kind's name. Raises InputError."""
    parts = {name: _parts(name) or [(name, 0)] for name in names}
    kinds = {kind: load_cluster(kind) for of_name in parts.values() for kind, _ in of_name}
    known = [cluster.name for cluster in kinds.values()]
    for name in prices:
        if name not in known:
            raise InputError(f"--price {name}: no such cluster is asked about; there is {', '.join(known)}")
    for kind, cluster in kinds.items():
        if cluster.name in prices:
            kinds[kind] = cluster.model_copy(update={"price_per_node_hour": prices[cluster.name]})
    return {
        name: kinds[name] if _parts(name) is None else _slowest(name, [(kinds[kind], count) for kind, count in of_name])
        for name, of_name in parts.items()
    }


def its_nodes(name: str) -> int | None:
    """Of a cluster of several kinds, whose name says them; None: as many as asked for."""
    parts = _parts(name)
    return None if parts is None else sum(count for _, count in parts)


def nodes_of(name: str, asked: int | None) -> int:
    """Nodes of a job. Raises InputError where a cluster of several kinds has another number."""
    fixed = its_nodes(name)
    if fixed is not None and asked not in (None, fixed):
        raise InputError(
            f"cluster {name!r} has {fixed} nodes, and {asked} are asked for: leave the number of nodes out"
        )
    return fixed or (1 if asked is None else asked)


def _parts(name: str) -> list[tuple[str, int]] | None:
    """ "a*2+b*1" -> its kinds and their numbers; None for another name."""
    found = [PART.fullmatch(part) for part in name.split("+")]
    return [(part[1], int(part[2])) for part in found if part] if all(found) else None


def _slowest(name: str, kinds: Sequence[tuple[Cluster, int]]) -> Cluster:
    clusters, nodes = [cluster for cluster, _ in kinds], sum(count for _, count in kinds)
    if min(count for _, count in kinds) < 1:
        raise InputError(f"cluster {name!r}: each kind needs one node at least")
    for field in ("device", "devices_per_node"):
        there = {cluster.name: getattr(cluster, field) for cluster in clusters}
        if len(set(there.values())) > 1:
            raise InputError(
                f"cluster {name!r} cannot be planned: {field} is {there}, and all nodes of a job need the same"
            )
    worst = {field: min(clusters, key=lambda one, f=field: getattr(one, f) or 0.0) for field in LESS_IS_SLOWER}  # type: ignore[misc]
    numbers = {field: getattr(cluster, field) for field, cluster in worst.items()}
    numbers |= {field: max(getattr(cluster, field) for cluster in clusters) for field in MORE_IS_SLOWER}
    prices = [cluster.price_per_node_hour for cluster in clusters]
    paid = sum(price * count for price, (_, count) in zip(prices, kinds, strict=True) if price)
    return clusters[0].model_copy(
        update={
            **numbers,
            "name": name,
            "max_nodes": nodes,
            "price_per_node_hour": None if None in prices else paid / nodes,
            "efficiency": _least_efficient([cluster.efficiency for cluster in clusters]),
            "calibration": None,
            "sources": {f: f"the slowest: {c.name}, {c.sources.get(f, '')}" for f, c in worst.items() if numbers[f]},
        }
    )


def _least_efficient(all_of_them: Sequence[Efficiency]) -> Efficiency:
    of_items = [one.stage_ms for one in all_of_them]
    found: dict[str, Any] = {
        "stage_ms": {item: max(one.get(item, 0.0) for one in of_items) for item in sorted(set().union(*of_items))}
    }
    for field in Efficiency.model_fields.keys() - found.keys():
        values = [value for one in all_of_them if (value := getattr(one, field)) is not None]
        found[field] = (min if field in SHARES else max)(values, default=None)
    return Efficiency(**found)
