"""Timing on noisy machines. In: alternatives as functions; out: seconds of each, measured in turns, with medians and paired ratios."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch


@dataclass
class Times:
    """Seconds of the repeats of one alternative, in the order of the rounds."""

    seconds: list[float]

    @property
    def median(self) -> float:
        """P50."""
        return statistics.median(self.seconds)

    @property
    def p99(self) -> float:
        """Of few repeats it is about the largest."""
        return float(np.percentile(self.seconds, 99))

    def ratio(self, other: Times) -> dict[str, float]:
        """other / self, of turns of the same round: how many times faster this one is; median, and the middle half."""
        ratios = [theirs / ours for ours, theirs in zip(self.seconds, other.seconds, strict=True)]
        low, high = np.percentile(ratios, [25, 75])
        return {"median": statistics.median(ratios), "p25": float(low), "p75": float(high)}

    def to_dict(self) -> dict[str, object]:
        """For a result file."""
        return {"p50_ms": self.median * 1e3, "p99_ms": self.p99 * 1e3, "repeats": len(self.seconds)}


def measure(
    alternatives: Mapping[str, Callable[[], object]],
    rounds: int = 9,
    warm_up: int = 2,
    device: torch.device | None = None,
    seconds: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
    settle: bool = False,
) -> dict[str, Times]:
    """Each alternative once a round, `rounds` times, after `warm_up` unmeasured ones; on CUDA each turn ends with a synchronisation.

    `seconds`: stop early (after 3 rounds at least) once this much time has passed. `clock`: time.process_time for CPU time, on a
    machine that others use. `settle`: each turn begins with an unmeasured one, for alternatives of very different sizes, where a small
    one would pay for the caches that a large one has emptied.
    """
    cuda = device is not None and device.type == "cuda"
    found: dict[str, list[float]] = {name: [] for name in alternatives}
    names = list(alternatives)
    began = time.perf_counter()
    for number in range(-warm_up, rounds):
        turn = names[number % len(names) :] + names[: number % len(names)]  # nobody is always the first
        for name in turn:
            if settle:
                alternatives[name]()
            if cuda:
                torch.cuda.synchronize(device)
            start = clock()
            alternatives[name]()
            if cuda:
                torch.cuda.synchronize(device)
            if number >= 0:
                found[name].append(clock() - start)
        if seconds is not None and number >= 2 and time.perf_counter() - began > seconds:
            break
    return {name: Times(taken) for name, taken in found.items()}
