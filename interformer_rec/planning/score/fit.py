"""Intercept and slope. In: predicted and measured milliseconds of runs; out: a Line, measured = intercept + slope x predicted.

A latency is no bandwidth: what a stage takes beyond its prediction is a constant, until runs of different sizes say that it grows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

APART = 1.3  # largest over smallest prediction, from which on runs are of different sizes


@dataclass(frozen=True)
class Line:
    """measured = intercept of the stage + slope x predicted, ms."""

    intercepts: tuple[float, ...]
    slope: float


def line(
    predicted: Sequence[Sequence[float]],
    measured: Sequence[Sequence[float]],
    grows: bool = False,
    steps: Sequence[float] | None = None,
) -> Line:
    """Of stages that share a slope: one list a stage, ms of each run in it; intercepts at least 0, the slope above 0.

    An error counts by its share of `steps`, the runs' steps in ms; without them of the run's stages.

    Runs of one size, and a stage that nothing predicts, tell one of the two: the intercept, which every run has, or with
    `grows` the slope.
    """
    p, m = np.array(predicted, float), np.array(measured, float)
    if m.sum() <= 0:
        return Line((0.0,) * len(p), 1.0)
    totals = p.sum(0)
    if totals.min() <= 0 or totals.max() < APART * totals.min():
        slope = m.sum() / p.sum() if p.sum() > 0 and (grows or m.sum() < p.sum()) else 1.0
        return Line(tuple(np.maximum(0.0, (m - slope * p).min(1))) if not grows else (0.0,) * len(p), float(slope))
    return _least_squares(p, m, m.sum(0) if steps is None else np.array(steps))


def _least_squares(p: np.ndarray, m: np.ndarray, whole: np.ndarray) -> Line:
    """Intercepts that come out below 0 are 0, one after the other; of a slope that does, 1 is taken: the assumed one."""
    stages, runs = p.shape
    weights = np.tile(1.0 / np.maximum(whole, 1e-9), stages)
    free = list(range(stages))
    while True:
        columns = [np.repeat(np.eye(stages)[stage], runs) for stage in free] + [p.ravel()]
        found, *_ = np.linalg.lstsq(np.stack(columns, 1) * weights[:, None], m.ravel() * weights, rcond=None)
        below = [stage for stage, value in zip(free, found, strict=False) if value < 0]
        if not below:
            break
        free.remove(min(below, key=lambda stage: found[free.index(stage)]))
    if found[-1] <= 0:
        return Line(tuple(np.maximum(0.0, (m - p).mean(1))), 1.0)
    intercepts = dict(zip(free, found, strict=False))
    return Line(tuple(float(intercepts.get(stage, 0.0)) for stage in range(stages)), float(found[-1]))
