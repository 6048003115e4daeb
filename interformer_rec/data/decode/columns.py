"""Columns: decoded and checked rows, ready to be picked into batches. In: decode, a row group at a time; out: what collate reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from interformer_rec.data.decode import jagged
from interformer_rec.data.decode.jagged import Jagged


@dataclass
class Requests:
    """What the candidates of a request have in common."""

    columns: Columns  # (requests) rows of the request's own features; no labels
    of: np.ndarray  # (candidates,) int64: the request of each, rising
    numbers: np.ndarray  # (requests,) int64: tells requests apart, also those of other row groups

    def candidates_of(self, order: np.ndarray) -> np.ndarray:
        """(candidates,) those of the requests in this order (each once), a request's own in theirs."""
        counts = np.bincount(self.of, minlength=len(self.columns.weights))
        first = np.cumsum(counts) - counts
        sizes = counts[order]
        return np.repeat(first[order] - (np.cumsum(sizes) - sizes), sizes) + np.arange(len(self.of))


@dataclass
class Columns:
    """The features of some rows, in the order of Layout. Where rows are candidates of requests, `requests` has the rest."""

    dense: np.ndarray  # (rows, m) float32
    singles: np.ndarray  # (rows, features) table rows, in the smallest type that holds them all
    jagged: list[Jagged]
    labels: np.ndarray  # (rows, tasks) float32
    weights: np.ndarray  # (rows,) float32
    groups: np.ndarray  # (rows,) int64
    bad: np.ndarray | None = None  # (rows,) int32: 0 for a good row, else 1 + index into reasons; None: all are good
    reasons: list[tuple[str, str]] = field(default_factory=list)  # (column and reason, message of an example)
    requests: Requests | None = None

    def take(self, rows: np.ndarray) -> Columns:
        """These rows, in this order; they are good ones."""
        return Columns(
            jagged.pick(self.dense, rows),
            jagged.pick(self.singles, rows),
            [part.take(rows) for part in self.jagged],
            jagged.pick(self.labels, rows),
            jagged.pick(self.weights, rows),
            jagged.pick(self.groups, rows),
        )

    def count_bad(self, rows: np.ndarray | slice, into: dict[str, tuple[int, str]]) -> np.ndarray:
        """(rows,) `bad` of these rows; reason -> (bad rows, an example) is added to `into`."""
        assert self.bad is not None
        codes = self.bad[rows]
        for code, count in zip(*np.unique(codes[codes > 0], return_counts=True), strict=True):
            reason, example = self.reasons[code - 1]
            before, first = into.get(reason, (0, example))
            into[reason] = (before + int(count), first)
        return codes


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
        _join_requests([part.requests for part in parts if part.requests is not None]),
    )


def _join_requests(parts: Sequence[Requests]) -> Requests | None:
    if not parts:
        return None
    before = np.cumsum([0, *(len(part.columns.weights) for part in parts)])
    of = np.concatenate([part.of + count for part, count in zip(parts, before, strict=False)])
    return Requests(join([part.columns for part in parts]), of, np.concatenate([part.numbers for part in parts]))
