"""How long the lists of rows are. In: lengths that were counted, or a statistics file's entry; out: Lengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from interformer_rec.config.strict import LARGEST


@dataclass(frozen=True)
class Lengths:
    """Elements a row has of a list, after truncation: mean, percentiles, largest, share of empty ones."""

    mean: float
    p50: float
    p95: float
    p99: float
    max: float
    empty: float = 0.0

    @classmethod
    def constant(cls, length: float) -> Lengths:
        """Every row has `length` elements."""
        return cls(length, length, length, length, length)

    @classmethod
    def of(cls, lengths: np.ndarray) -> Lengths:
        """From the (rows,) lengths of a sample."""
        p50, p95, p99 = (float(x) for x in np.percentile(lengths, [50, 95, 99]))
        return cls(float(lengths.mean()), p50, p95, p99, float(lengths.max()), float((lengths == 0).mean()))

    def widths(self, rows: int) -> np.ndarray:
        """(rows,) lengths of a typical batch, ascending: the percentiles joined by lines, scaled to the mean."""
        at = (np.arange(rows) + 0.5) / rows
        middle = max(0.5, self.empty)
        known = [
            (0.0, 0.0 if self.empty else min(self.p50, self.mean)),
            (self.empty, 0.0 if self.empty else min(self.p50, self.mean)),
        ]
        known += [(middle, self.p50), (max(0.95, middle), self.p95), (max(0.99, middle), self.p99), (1.0, self.max)]
        drawn = np.interp(at, [share for share, _ in known], [value for _, value in known])
        drawn[at < self.empty] = 0.0
        for _ in range(8):  # scaling is cut off at max, so once is not enough
            total = drawn.sum()
            if total <= 0:
                break
            drawn = np.minimum(drawn * self.mean * rows / total, self.max)
        return drawn

    def batch_total(self, rows: int) -> float:
        """Elements that 99 of 100 batches of `rows` rows stay below: mean + 2.33 deviations of the sum.

        The deviation of a row is at most sqrt(mean * (max - mean)) (Bhatia and Davis 2000), which needs no more than is known.
        """
        deviation = (self.mean * max(0.0, self.max - self.mean)) ** 0.5
        return min(self.max * rows, self.mean * rows + 2.33 * deviation * rows**0.5)


def lengths_of(entry: Mapping[str, object]) -> Lengths:
    """Of a statistics file's group. Raises ValueError, KeyError, TypeError."""
    values = {}
    for key in ("mean", "p50", "p95", "p99", "max", "empty"):
        value = entry[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= LARGEST:
            raise ValueError(f"{key} {value!r}: a number from 0 to {LARGEST}")
        values[key] = float(value)
    if values["mean"] > values["max"] or values["empty"] > 1:
        raise ValueError(
            f"mean {values['mean']:g} is above max {values['max']:g}, or empty {values['empty']:g} above 1"
        )
    return Lengths(**values)
