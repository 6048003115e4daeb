"""Metrics over all windows up to now. In: the metrics of each window; out: logloss, NE and calibration over all their rows, mean AUC and
GAUCs.

Logloss, NE and calibration come from sums, so they are exact over all rows, each scored before it was trained on. An AUC over all rows
would need every score of every window, and compare scores of different weights: the mean of the windows' AUCs is taken, weighted by their
sums of sample weights. The memory does not grow with the windows.
"""

import math
from typing import Any

import numpy as np

from interformer_rec.errors import DamagedError
from interformer_rec.metrics.evaluation import ratios

MEANS = ("auc", "gauc", "gauc_request")


class Totals:
    """Sums of the windows that were evaluated on."""

    def __init__(self, labels: list[str]) -> None:
        self.windows = 0
        self._sums = {label: [0.0] * 5 for label in labels}
        self._means = {label: {name: [0.0, 0.0] for name in MEANS} for label in labels}  # value * weight, weight

    def add(self, metrics: dict[str, float], sums: dict[str, list[float]]) -> None:
        """One window's metrics, and for every label the sums behind them (EvalMetrics.sums)."""
        self.windows += 1
        for label, of_label in sums.items():
            self._sums[label] = [a + b for a, b in zip(self._sums[label], of_label, strict=True)]
            weight = of_label[0] + of_label[1]
            for name, mean in self._means[label].items():
                value = metrics.get(f"{label}/{name}", math.nan)
                if math.isfinite(value):
                    mean[0], mean[1] = mean[0] + weight * value, mean[1] + weight

    def metrics(self) -> dict[str, float]:
        """all/LABEL/METRIC; {} before the first window."""
        if not self.windows:
            return {}
        found: dict[str, float] = {}
        for label, sums in self._sums.items():
            means = {name: total / weight for name, (total, weight) in self._means[label].items() if weight}
            found |= {f"all/{label}/{name}": value for name, value in {**means, **ratios(np.array(sums))}.items()}
        return found

    def state(self) -> dict[str, Any]:
        """For a checkpoint; JSON-able."""
        return {"windows": self.windows, "sums": self._sums, "means": self._means}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state()`. Raises DamagedError for one of other labels."""
        labels = set(self._sums)
        if (
            {*state["sums"]} != labels
            or {*state["means"]} != labels
            or any(not {*one} <= {*MEANS} for one in state["means"].values())
        ):
            raise DamagedError("the averages over windows in a checkpoint are of other labels than the run's")
        self.windows, self._sums = state["windows"], state["sums"]
        # a checkpoint may be older than a metric
        self._means = {
            label: {name: of.get(name, [0.0, 0.0]) for name in MEANS} for label, of in state["means"].items()
        }
