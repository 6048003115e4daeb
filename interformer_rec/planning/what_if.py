"""The same model on other jobs. In: a Problem and what to vary; out: a row for each, the cheapest, the smallest change that fits."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from interformer_rec.config.strict import LARGEST
from interformer_rec.errors import InputError
from interformer_rec.planning.answer import Placed, place
from interformer_rec.planning.constraints import RunWishes, Wishes
from interformer_rec.planning.cost.cluster import GIB, Cluster
from interformer_rec.planning.question import Problem

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
    price_per_billion_samples: float | None = None
    why: str = ""


def sweep(
    problem: Problem, clusters: Sequence[Cluster], nodes: Sequence[int], batch_sizes: Sequence[int]
) -> list[Outcome]:
    """A plan for every combination, in the order given."""
    jobs = []
    for cluster, count, batch in itertools.product(clusters, nodes, batch_sizes):
        job = problem.changed(cluster=cluster, nodes=count, batch_size=batch)
        price = cluster.price_per_node_hour * count if cluster.price_per_node_hour else None
        try:
            jobs.append(_row(place(job), price))
        except InputError as error:  # does not fit, or constraints name hosts that so few nodes do not have
            jobs.append(Outcome(cluster.name, count, job.ranks, batch, price_per_hour=price, why=str(error)))
    return jobs


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
        price_per_billion_samples=price / placed.samples_per_second / 3600 * 1e9 if price else None,
    )


def cheapest(jobs: Sequence[Outcome]) -> Outcome | None:
    """By price an hour where all that fit have one, else by number of devices; of equals the faster one. None: nothing fits."""
    fitting = [job for job in jobs if job.step_ms is not None]
    priced = all(job.price_per_hour is not None for job in fitting)
    return min(
        fitting,
        key=lambda job: (job.price_per_hour if priced else job.ranks, -(job.samples_per_second or 0.0)),  # type: ignore[return-value]
        default=None,
    )


def fewest_nodes(problem: Problem, most: int | None = None) -> Placed:
    """The plan on the fewest nodes of this cluster that hold the tables. Raises DoesNotFit where `most` are too few."""
    limit = most or max(1, min(problem.cluster.max_nodes, MOST_RANKS // problem.cluster.devices_per_node))
    low, nodes = 0, min(_least_nodes(problem), limit)
    while (found := _attempt(problem.changed(nodes=nodes))) is None:
        if nodes >= limit:
            place(problem.changed(nodes=nodes))  # raises, with its numbers
        low, nodes = nodes, min(2 * nodes, limit)
    return _fewest(low, nodes, found, lambda count: problem.changed(nodes=count))[1]


def _fewest(low: int, high: int, found: Placed, question: Callable[[int], Problem]) -> tuple[int, Placed]:
    """The smallest number above `low` whose question has a plan, by halving; that of `high` is `found`."""
    while high - low > 1:
        middle = (low + high) // 2
        placed = _attempt(question(middle))
        if placed is None:
            low = middle
        else:
            high, found = middle, placed
    return high, found


def _least_nodes(problem: Problem) -> int:
    """Nodes below which the weights alone do not fit, host memory included."""
    need = sum(table.rows * table.dim * table.weight_bytes for table in problem.tables.values())
    host = problem.cluster.host_bytes if problem.cluster.device == "cuda" else 0
    return max(1, need // ((problem.usable + host) * problem.cluster.devices_per_node))


@dataclass(frozen=True)
class Change:
    """One change after which the tables fit, tried for real."""

    what: str
    placed: Placed


def smallest_changes(problem: Problem) -> Iterator[Change]:
    """For a problem without a plan: single changes that give it one, tried one after another, the least costly first."""
    wishes, free = problem.wishes, Wishes(together=problem.wishes.together)
    on_gpu = problem.cluster.device == "cuda"
    if wishes.confine:
        anywhere = {"hosts": (), "ranks": ()}
        tables = {name: wish.model_copy(update=anywhere) for name, wish in wishes.tables.items()}
        spread = wishes.model_copy(update={"tables": tables, "default": wishes.default.model_copy(update=anywhere)})
        yield from _change("lift the constraints on hosts and ranks", problem.changed(wishes=spread))
    preferred = isinstance(wishes, RunWishes) and wishes.preferred != "auto"
    if preferred or any(wish.sharding or wish.kernels for wish in (wishes.default, *wishes.tables.values())):
        where = " and hosts" if wishes.confine else ""
        yield from _change(
            f"lift the constraints on sharding types{',' if where else ' and'} kernels{where}",
            problem.changed(wishes=free),
        )
    if problem.config.training.precision == "fp32" and on_gpu:
        training = problem.config.training.model_copy(update={"precision": "bf16"})
        bf16 = problem.config.model_copy(update={"training": training})
        yield from _change("train the dense part in bf16 (training.precision=bf16)", problem.changed(config=bf16))
    if on_gpu:
        yield from _in_host_memory(problem)
    yield from _change("hold table rows in half precision", problem.changed(table_bytes=2))
    yield from _smaller_batch(problem)
    try:
        placed = fewest_nodes(problem)
    except InputError:
        return
    yield Change(f"use {placed.problem.nodes} nodes ({placed.problem.ranks} ranks) instead of {problem.nodes}", placed)


def _change(what: str, problem: Problem) -> Iterator[Change]:
    placed = _attempt(problem)
    if placed is not None:
        yield Change(what, placed)


def _attempt(problem: Problem) -> Placed | None:
    try:
        return place(problem)
    except InputError:
        return None


def _in_host_memory(problem: Problem) -> Iterator[Change]:
    """The fewest of the largest tables that must lie in host memory, with a cache on the device."""
    by_size = sorted(problem.tables.values(), key=lambda table: -table.rows * table.dim)

    def cached(count: int) -> Problem:
        moved = {
            table.name: problem.wishes.of(table.name).model_copy(update={"kernels": ("fused_uvm_caching",)})
            for table in by_size[:count]
        }
        return problem.changed(wishes=problem.wishes.model_copy(update={"tables": {**problem.wishes.tables, **moved}}))

    everything = _attempt(cached(len(by_size)))
    if everything is None:
        return
    count, best = _fewest(0, len(by_size), everything, cached)
    names = ", ".join(table.name for table in by_size[:count][:5]) + (", ..." if count > 5 else "")
    yield Change(
        f"keep {count} table(s) in host memory, cached on the device (kernels: [fused_uvm_caching]): {names}", best
    )


def _smaller_batch(problem: Problem) -> Iterator[Change]:
    """Divide the batch until it fits; in vain where the tables alone are too large."""
    if sum(t.rows * t.dim * t.weight_bytes for t in problem.tables.values()) > problem.usable * problem.ranks:
        return
    batch = problem.batch_size // 2
    while batch >= 1:
        placed = _attempt(problem.changed(batch_size=batch))
        if placed is not None:
            yield Change(f"use a batch of {batch} rows a rank instead of {problem.batch_size}", placed)
            return
        batch //= 8 if batch > 256 else 2


def parse_sweep(parts: Sequence[str]) -> dict[str, list[str]]:
    """["nodes=1,2,4", "batch=1024"] -> values by name. Names: nodes, batch, cluster. Raises InputError."""
    found: dict[str, list[str]] = {}
    for part in parts:
        name, equals, text = part.partition("=")
        values = [value.strip() for value in text.split(",")]
        if name not in ("nodes", "batch", "cluster") or not equals or not all(values):
            raise InputError(f"--what-if {part!r}: write nodes=1,2,4 or batch=512,1024 or cluster=dgx-h100,dgx-b200")
        if name in found:
            raise InputError(f"--what-if: {name} is given twice; write all its values after one {name}=")
        if name != "cluster" and not all(value.isdecimal() and 1 <= int(value[:20]) <= LARGEST for value in values):
            raise InputError(f"--what-if {part!r}: {name} needs whole numbers from 1 to {LARGEST}, divided by commas")
        found[name] = values
    return found
