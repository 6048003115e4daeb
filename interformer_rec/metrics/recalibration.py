"""Recalibration: scores become probabilities again. In: logits and a scale and a shift; out: logits.

A shift corrects a base rate that has moved, a scale scores that are too far apart. The scale is positive, so no order changes and AUC
stays. platt.py fits both. Needs numpy alone: a server reads it.
"""

from collections.abc import Mapping

import numpy as np

from interformer_rec.errors import DamagedError

Line = tuple[float, float]  # scale, shift: logit -> scale * logit + shift
Lines = dict[str, Line]  # of every label
AS_IT_IS: Line = (1.0, 0.0)


def scale_and_shift(lines: Mapping[str, Line] | None, labels: tuple[str, ...]) -> np.ndarray | None:
    """(2, labels) float32; None where nothing is recalibrated. Raises DamagedError for lines that are not of these labels."""
    if lines is None:
        return None
    if set(lines) != set(labels) or not all(np.isfinite(line).all() and line[0] > 0 for line in lines.values()):
        raise DamagedError(
            f"the recalibration {dict(lines)} has not a scale above 0 and a shift for each of the labels {', '.join(labels)}: it belongs "
            "to another model, or somebody changed it"
        )
    return np.array([lines[label] for label in labels], np.float32).T


def recalibrated(logits: np.ndarray, lines: np.ndarray | None) -> np.ndarray:
    """(n, labels) float32 logits by the lines (2, labels)."""
    return logits if lines is None else logits * lines[0] + lines[1]


def text_of(lines: Mapping[str, Line]) -> str:
    """For people."""
    return "; ".join(f"{label}: logit x {scale:.4g} {shift:+.4g}" for label, (scale, shift) in lines.items())
