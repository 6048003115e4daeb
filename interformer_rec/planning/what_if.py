"""The same model on other jobs. In: a Problem and what to vary; out: a row for each, the fewest nodes that fit."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from interformer_rec.config.strict import LARGEST
from interformer_rec.errors import InputError
from interformer_rec.planning.answer import Placed, place
from interformer_rec.planning.choose.replicas import replicated
from interformer_rec.planning.cost.cluster import Cluster
from interformer_rec.planning.question import Problem
from interformer_rec.text import GIB

MOST_RANKS = 4096  # nobody asks for more, and a search of that size takes minutes


@dataclass(frozen=True)
class Outcome:
    """One row of a sweep; the numbers are None where the tables do not fit, and `why` says what lacks."""

    cluster: str
    nodes: int
    ranks: int
    batch_size: int
    step_ms: float | None = None
    samples_per_second: float | None = None
    peak_gib: float | None = None
    bottleneck: str = ""
    price_per_hour: float | None = None
    price_per_million_samples: float | None = None
    items: dict[str, float] = field(default_factory=dict)  # of the step, ms
    why: str = ""
    groups: int = 1  # 2D groups; with more, step_ms has an average of all tables after each step, which takes sync_ms
    sync_ms: float = 0.0


def sweep(
    problem: Problem,
    clusters: Sequence[Cluster],
    nodes: Sequence[int],
    batch_sizes: Sequence[int],
    groups: Sequence[int] = (1,),
) -> list[Outcome]:
    """A plan for every combination, in the order given."""
    jobs = []
    for cluster, count, batch, parts in itertools.product(clusters, nodes, batch_sizes, groups):
        job = problem.changed(cluster=cluster, nodes=count, batch_size=batch)
        price = cluster.price_per_node_hour * count if cluster.price_per_node_hour else None
        try:
            jobs.append(_row(place(job), price) if parts == 1 else _replicated_row(job, parts, price))
        except InputError as error:  # does not fit, or constraints name hosts that so few nodes do not have
            jobs.append(
                Outcome(cluster.name, count, job.ranks, batch, price_per_hour=price, why=str(error), groups=parts)
            )
    return jobs


def _replicated_row(job: Problem, groups: int, price: float | None) -> Outcome:
    found = replicated(job, groups)
    inside = _row(found.group, None)
    samples = 1000 * job.batch_size * job.ranks / found.step_ms
    return replace(
        inside,
        nodes=job.nodes,
        ranks=job.ranks,
        step_ms=found.step_ms,
        samples_per_second=samples,
        bottleneck=found.time.bottleneck,
        price_per_hour=price,
        price_per_million_samples=price / samples / 3600 * 1e6 if price else None,
        items=found.time.items,
        groups=groups,
        sync_ms=found.sync_ms,
    )


def _row(placed: Placed, price: float | None) -> Outcome:
    problem = placed.problem
    return Outcome(
        cluster=problem.cluster.name,
        nodes=problem.nodes,
        ranks=problem.ranks,
        batch_size=problem.batch_size,
        step_ms=placed.time.total,
        samples_per_second=placed.samples_per_second,
        peak_gib=float(placed.memory.peak.max()) / GIB,
        bottleneck=placed.time.bottleneck,
        price_per_hour=price,
        price_per_million_samples=price / placed.samples_per_second / 3600 * 1e6 if price else None,
        items=placed.time.items,
    )


def fewest_nodes(problem: Problem) -> Placed:
    """The plan on the fewest nodes of this cluster that hold the tables. Raises DoesNotFit where all that it may have are too few."""
    limit = max(1, min(problem.cluster.max_nodes, MOST_RANKS // problem.cluster.devices_per_node))
    low, nodes = 0, min(_least_nodes(problem), limit)
    while (found := attempt(problem.changed(nodes=nodes))) is None:
        if nodes >= limit:
            place(problem.changed(nodes=nodes))  # raises, with its numbers
        low, nodes = nodes, min(2 * nodes, limit)
    return fewest(low, nodes, found, lambda count: problem.changed(nodes=count))[1]


def fewest(low: int, high: int, found: Placed, question: Callable[[int], Problem]) -> tuple[int, Placed]:
    """The smallest number above `low` whose question has a plan, by halving; that of `high` is `found`."""
    while high - low > 1:
        middle = (low + high) // 2
        placed = attempt(question(middle))
        if placed is None:
            low = middle
        else:
            high, found = middle, placed
    return high, found


def attempt(problem: Problem) -> Placed | None:
    """Its plan; None where there is none."""
    try:
        return place(problem)
    except InputError:
        return None


def _least_nodes(problem: Problem) -> int:
    """Nodes below which the weights alone do not fit, host memory included."""
    need = sum(table.rows * table.dim * table.weight_bytes for table in problem.tables.values())
    host = problem.cluster.host_bytes if problem.cluster.device == "cuda" else 0
    return max(1, need // ((problem.usable + host) * problem.cluster.devices_per_node))


def parse_sweep(parts: Sequence[str]) -> dict[str, list[str]]:
    """["nodes=1,2,4", "batch=1024"] -> values by name. Names: nodes, batch, cluster, groups. Raises InputError."""
    found: dict[str, list[str]] = {}
    for part in parts:
        name, equals, text = part.partition("=")
        values = [value.strip() for value in text.split(",")]
        if name not in ("nodes", "batch", "cluster", "groups") or not equals or not all(values):
            raise InputError(
                f"--what-if {part!r}: write nodes=1,2,4 or batch=512,1024 or cluster=dgx-h100,dgx-b200 or groups=1,2"
            )
        if name in found:
            raise InputError(f"--what-if: {name} is given twice; write all its values after one {name}=")
        if name != "cluster" and not all(value.isdecimal() and 1 <= int(value[:20]) <= LARGEST for value in values):
            raise InputError(f"--what-if {part!r}: {name} needs whole numbers from 1 to {LARGEST}, divided by commas")
        found[name] = values
    return found
