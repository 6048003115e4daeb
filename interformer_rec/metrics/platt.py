"""A recalibration is fitted. In: logits and labels over all ranks; out: the scale and shift of the logits with the least logloss.

Platt scaling (Platt, 1999): the logistic regression of the label on the logit. Two numbers a label, so it needs few rows.
"""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize

from interformer_rec.metrics.recalibration import Line

LEAST_SCALE = 1e-3  # below, the scores say nothing of the label, or the opposite


def fit_line(sums: Callable[[Line], np.ndarray]) -> Line | None:
    """The line of the least logloss; None where there is none of a positive scale, as for scores that rank no better than chance.

    `sums`: of a line, over all rows: logloss, its two first derivatives, its three second ones (scale twice, both, shift twice). It may
    be collective: every rank asks for the same lines.
    """
    known: dict[bytes, np.ndarray] = {}

    def at(line: np.ndarray) -> np.ndarray:
        key = line.tobytes()
        if key not in known:
            known[key] = sums((float(line[0]), float(line[1])))
        return known[key]

    found = minimize(
        lambda line: (at(line)[0], at(line)[1:3]),
        np.array([1.0, 0.0]),
        jac=True,
        hess=lambda line: at(line)[[3, 4, 4, 5]].reshape(2, 2),
        method="trust-exact",
        options={"maxiter": 100, "gtol": 1e-9},
    )
    scale, shift = found.x.tolist()
    return (scale, shift) if np.isfinite(found.x).all() and scale >= LEAST_SCALE else None


def derivatives(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray, line: Line) -> np.ndarray:
    """(6,) float64, what `fit_line` asks for, summed over rows (n,), all finite."""
    x, y, w = (part.astype(np.float64) for part in (logits, labels, weights))
    z = line[0] * x + line[1]
    probability = np.exp(-np.logaddexp(0.0, -z))
    error, curve = w * (probability - y), w * probability * (1.0 - probability)
    loss = w @ (np.logaddexp(0.0, -z) + (1.0 - y) * z)
    return np.array([loss, error @ x, error.sum(), curve @ (x * x), curve @ x, curve.sum()])
