"""Jobs of a sweep beside each other. In: their Outcomes; out: those with a price by what samples cost, others apart; what scaling loses.

A device of one kind is not one of another, so jobs without a price are compared with others of their own cluster alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from interformer_rec.planning.what_if import Outcome

EVEN = 0.995  # an efficiency from which on nothing is lost that is worth a cause


@dataclass(frozen=True)
class Scaling:
    """More nodes of a cluster with as many rows a rank: samples a second and device, by those of its fewest nodes; and why."""

    cluster: str
    batch_size: int
    nodes: int
    than_nodes: int
    efficiency: float
    cause: str = ""  # the item of the step that grew most; empty: nothing is lost
    grew_ms: float = 0.0

    @property
    def text(self) -> str:
        """A sentence."""
        what = f"{self.nodes} x {self.cluster} with {self.batch_size:,} rows a rank"
        lost = f": {self.cause} grows most, by {self.grew_ms:.3g} ms" if self.cause else ""
        return f"{what} do {self.efficiency:.0%} a device of what {self.than_nodes} do{lost}"


def by_price(jobs: Sequence[Outcome]) -> list[Outcome]:
    """Those that fit and have a price, the cheapest samples first; of equals the faster one."""
    priced = [job for job in jobs if job.price_per_million_samples is not None and job.groups == 1]
    return sorted(priced, key=lambda job: (job.price_per_million_samples, -(job.samples_per_second or 0.0)))  # type: ignore[operator]


def without_price(jobs: Sequence[Outcome]) -> list[Outcome]:
    """Those that fit and have none, in the order given."""
    fitting = [job for job in jobs if job.step_ms is not None and job.groups == 1]
    return [job for job in fitting if job.price_per_million_samples is None]


def in_groups(jobs: Sequence[Outcome]) -> list[tuple[Outcome, int | None]]:
    """2D groups that fit, and steps between two averages from which on they are faster than the job without; None: never, not known."""
    alone = {(job.cluster, job.nodes, job.batch_size): job.step_ms for job in jobs if job.groups == 1}
    found = []
    for job in jobs:
        if job.groups > 1 and job.step_ms is not None:
            saved = (alone.get((job.cluster, job.nodes, job.batch_size)) or 0.0) - (job.step_ms - job.sync_ms)
            found.append((job, math.ceil(job.sync_ms / saved) if saved > 0 else None))
    return found


def fewest_devices(jobs: Sequence[Outcome]) -> list[Outcome]:
    """Of every cluster without a price the job of the fewest devices that fits; of equals the faster one."""
    best: dict[str, Outcome] = {}
    for job in without_price(jobs):
        other = best.get(job.cluster)
        if other is None or (job.ranks, -(job.samples_per_second or 0.0)) < (
            other.ranks,
            -(other.samples_per_second or 0.0),
        ):
            best[job.cluster] = job
    return list(best.values())


def scaling(jobs: Sequence[Outcome]) -> list[Scaling]:
    """Of every cluster and batch size that fits on several numbers of nodes."""
    groups: dict[tuple[str, int], list[Outcome]] = {}
    for job in jobs:
        if job.step_ms is not None and job.groups == 1:
            groups.setdefault((job.cluster, job.batch_size), []).append(job)
    found = []
    for (cluster, batch), alike in groups.items():
        first, *others = sorted(alike, key=lambda job: job.nodes)
        for job in others:
            efficiency = (job.samples_per_second or 0.0) / job.ranks / ((first.samples_per_second or 1.0) / first.ranks)
            grew = {name: ms - first.items.get(name, 0.0) for name, ms in job.items.items()}
            cause = max(grew, key=lambda name: grew[name]) if efficiency < EVEN else ""
            found.append(Scaling(cluster, batch, job.nodes, first.nodes, efficiency, cause, grew.get(cause, 0.0)))
    return found
