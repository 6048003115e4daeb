"""The clock of a plan: a step, its range, samples a second. In: a Placed; out: Clock, whose texts the screen and the page print.

The range on GPUs was drawn around published steps beside their predictions, whose errors were known when the constants were settled:
docs/guides/planning.md has the table, tests/planning/public_figures the jobs. The other two are estimates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from interformer_rec.planning.answer import Placed
from interformer_rec.text import milliseconds

# Measured over predicted, least and most.
CALIBRATED, PUBLISHED, PROCESSOR = (0.8, 1.25), (0.85, 1.35), (0.5, 2.0)


@dataclass(frozen=True)
class Clock:
    """The names are keys of a plan's `step`. Milliseconds, but for samples, price and sentences."""

    total: float
    expected: tuple[float, float]  # in which a measured step is expected
    how_sure: str  # what that is known from
    samples_per_second: float  # of the whole job
    bottleneck: str
    bottleneck_ms: float
    price_per_million_samples: float | None  # where the cluster has a price

    @classmethod
    def read(cls, step: Mapping[str, Any]) -> Clock:
        """From a plan's `step`."""
        return cls(**{field.name: step[field.name] for field in fields(cls)})

    @property
    def range(self) -> str:
        """'14 to 22 ms'."""
        low, high = self.expected
        return f"{low:.2g} to {high:.2g} ms" if high < 100 else f"{low:,.0f} to {high:,.0f} ms"

    @property
    def texts(self) -> dict[str, str]:
        """Name -> text, in the order in which they are shown."""
        part = f"{milliseconds(self.bottleneck_ms)}, {self.bottleneck_ms / self.total:.0%}"
        price = self.price_per_million_samples
        return {
            "a step": milliseconds(self.total),
            "expected": self.range,
            "samples/s": f"{float(f'{self.samples_per_second:.3g}'):,.0f}",
            "most of a step": f"{self.bottleneck}: {part}",
            **({} if price is None else {"price of a million samples": f"{price:.3g}"}),
        }


def clock(placed: Placed) -> Clock:
    """Of a plan."""
    time, cluster = placed.time, placed.problem.cluster
    (low, high), why = _range(placed)
    price = cluster.price_per_node_hour
    return Clock(
        total=time.total,
        expected=(low * time.total, high * time.total),
        how_sure=why,
        samples_per_second=placed.samples_per_second,
        bottleneck=time.bottleneck,
        bottleneck_ms=max(time.items.values()),
        price_per_million_samples=price * placed.problem.nodes / 3600 / placed.samples_per_second * 1e6
        if price
        else None,
    )


def _range(placed: Placed) -> tuple[tuple[float, float], str]:
    cluster = placed.problem.cluster
    if cluster.calibration is not None and cluster.calibration.timed:
        return CALIBRATED, "the cluster file is calibrated: runs near the calibrating one were in such a range"
    if cluster.device == "cuda":
        return PUBLISHED, "all published jobs that were compared were in such a range; no run of yours was"
    return PROCESSOR, "an uncalibrated CPU: within a factor of two; `plan score RUN --out FILE` narrows it"


def nothing_shorter(total: float, bound: float) -> str:
    """What a bound on the step proves; `bound` 0: none is known."""
    if bound <= 0:
        return "nobody looked for a shorter step"
    gap = total / bound - 1
    return (
        "by this count no plan has a shorter step"
        if gap < 1e-6
        else f"by this count none makes the step {gap:.2%} shorter"
    )
