"""What the planner says of a point before it is measured. In: the point's config and rows, a cluster; out: step, memory, traffic, price.

The plan is the search's, as of `interformer plan`. Without --cluster the cluster is this machine: its memory, and the matmul rate and copy
bandwidth that were measured here in the place of a datasheet's.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from interformer_rec.config.run import RunConfig
from interformer_rec.data.decode.arrays import lists
from interformer_rec.data.files.source import open_source
from interformer_rec.data.fit import Fitted
from interformer_rec.errors import InputError
from interformer_rec.host import total_memory
from interformer_rec.planning.answer import place
from interformer_rec.planning.command import constraints_of
from interformer_rec.planning.cost.cluster import Cluster, known, load_cluster
from interformer_rec.planning.cost.lengths import Lengths
from interformer_rec.planning.cost.repeats import first_rows, measure
from interformer_rec.planning.cost.sizes import REPEAT_ROWS, Sizes
from interformer_rec.planning.cost.traffic import traffic
from interformer_rec.planning.question import Problem
from interformer_rec.text import GIB

HERE = "this machine"


@dataclass(frozen=True)
class Prediction:
    """Of one point; the numbers are None where it has no plan, and `why` says what lacks."""

    cluster: str
    step_ms: float | None = None
    samples_per_second: float | None = None
    peak_bytes: float | None = None  # of the fullest rank
    sent_bytes: float | None = None  # to other ranks, a step, all ranks together; dense gradients included
    price_per_million_samples: float | None = None
    why: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For a result file."""
        return asdict(self)


def cluster_for(name: str | None, device: str, ranks: int, ceilings: dict[str, float]) -> Cluster:
    """The cluster of a job of so many ranks: the named one, or this machine. Raises InputError."""
    if name is not None:
        cluster = load_cluster(name)
        local = min(ranks, cluster.devices_per_node) if cluster.device == "cuda" else ranks
        if ranks % local:
            raise InputError(f"{ranks} ranks do not fill nodes of cluster {cluster.name!r}, which have {local} devices")
        return cluster.model_copy(update={"devices_per_node": local})
    return _here(device, ranks, ceilings)


def _here(device: str, ranks: int, ceilings: dict[str, float]) -> Cluster:
    """Links and assumed efficiencies of a known cluster with such a device; what was measured counts as reached."""
    clusters = [load_cluster(one) for one in known()]
    like = next(cluster for cluster in clusters if cluster.device == device)
    copied = ceilings["copy"] / 1e9
    found: dict[str, Any] = {
        "name": HERE,
        "devices_per_node": ranks,
        "ddr_gib": total_memory() / GIB,
        "max_nodes": 1,
        "bf16_tflops": ceilings["bf16"] / 1e12,
        "fp32_tflops": ceilings["fp32"] / 1e12,
        "efficiency": like.efficiency.model_copy(update={"matmul": 1.0, "tensors": 1.0}),
    }
    if device == "cpu":
        found["ddr_gb_per_s"] = copied * ranks
    else:
        found["hbm_gb_per_s"] = copied
    return like.model_copy(update=found)


def predict(config: RunConfig, fitted: Fitted, ranks: int, cluster: Cluster) -> Prediction:
    """Place the tables and count. What cannot be planned is an answer, too."""
    nodes = max(1, ranks // cluster.devices_per_node)
    try:
        problem = Problem(
            config=config,
            cluster=cluster,
            nodes=nodes,
            batch_size=config.data.batch_size,
            sizes=sizes_of(config, fitted),
            constraints=constraints_of(config, cluster),
        )
        placed = place(problem)
    except InputError as error:
        return Prediction(cluster.name, why=str(error))
    price = cluster.price_per_node_hour
    rate = placed.samples_per_second
    sent = traffic(placed.problem, placed.options)
    return Prediction(
        cluster.name,
        step_ms=placed.time.total,
        samples_per_second=rate,
        peak_bytes=float(placed.memory.peak.max()),
        sent_bytes=float(sent.sent().sum()) + _all_reduced(placed.problem),
        price_per_million_samples=price_of(price, nodes, rate),
    )


def price_of(price_per_node_hour: float | None, nodes: int, samples_per_second: float) -> float | None:
    """Of a million samples, in the currency of the cluster file."""
    return price_per_node_hour * nodes / samples_per_second / 3600 * 1e6 if price_per_node_hour else None


def _all_reduced(problem: Problem) -> float:
    """Bytes of the dense gradients on their way round a ring of all ranks."""
    return 2 * (problem.ranks - 1) * 4.0 * problem.dense_parameters


def sizes_of(config: RunConfig, fitted: Fitted) -> Sizes:
    """Rows as fitted; lengths and repeated ids of the file that the point trains on, a row for each row of a batch."""
    features, path = config.features, config.data.train or ""
    source = open_source(path)
    columns = {group.name: group.columns[0].column for group in features.sequences}
    columns |= {bag.name: bag.column for bag in features.bags}
    table = first_rows(features, source, columns.values(), source.rows)
    limits = {group.name: group.max_length for group in features.sequences}
    lengths = {
        name: Lengths.of(np.minimum(lists(table[column]).lengths, limits.get(name, 1 << 40)).astype(float))
        for name, column in columns.items()
    }
    return Sizes(dict(fitted.table_rows), lengths, {}, measure(features, source, REPEAT_ROWS))
