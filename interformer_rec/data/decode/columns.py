"""Columns: decoded and checked rows, ready to be picked into batches. In: decode, a row group at a time; out: what collate reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from interformer_rec.data.decode import jagged
from interformer_rec.data.decode.jagged import Jagged


@dataclass
class Columns:
    """The features of some rows, in the order of Layout."""

    dense: np.ndarray  # (rows, m) float32
    singles: np.ndarray  # (rows, features) table rows, in the smallest type that holds them all
    jagged: list[Jagged]
    labels: np.ndarray  # (rows, tasks) float32
    weights: np.ndarray  # (rows,) float32
    groups: np.ndarray  # (rows,) int64
    bad: np.ndarray | None = None  # (rows,) int32: 0 for a good row, else 1 + index into reasons; None: all are good
    reasons: list[tuple[str, str]] = field(default_factory=list)  # (column and reason, message of an example)


def join(parts: Sequence[Columns]) -> Columns:
    """The rows of several row groups, in order."""
    if len(parts) == 1:
        return parts[0]
    bad = None
    if any(part.bad is not None for part in parts):
        counts = np.cumsum([0, *(len(part.reasons) for part in parts)])
        codes = [np.zeros(len(part.weights), np.int32) if part.bad is None else part.bad for part in parts]
        bad = np.concatenate([np.where(code > 0, code + count, 0) for code, count in zip(codes, counts, strict=False)])
    return Columns(
        np.concatenate([part.dense for part in parts]),
        np.concatenate([part.singles for part in parts]),
        [jagged.join(group) for group in zip(*(part.jagged for part in parts), strict=True)],
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.weights for part in parts]),
        np.concatenate([part.groups for part in parts]),
        bad,
        [reason for part in parts for reason in part.reasons],
    )
