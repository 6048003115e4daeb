"""Metrics as functions of how often each user was drawn: intervals over users. In: scored rows and their users; out: a metric a resample.

A bootstrap over users draws as many users as there are, with replacement, and takes all rows of each: rows of one user are alike, so
rows drawn one by one would give intervals that are too narrow. Two systems scored on the same rows are drawn alike (`drawn` with one
seed), so that what is common to both drops out of their difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interformer_rec.config.features import NULL_GROUP
from interformer_rec.metrics import exact

LEVEL = 0.95
BLOCK = 1 << 17  # rows times resamples at a time: what a cache holds


@dataclass(frozen=True)
class Users:
    """Whose rows these are. Rows of no user (NULL_GROUP) are each drawn for themselves."""

    index: np.ndarray  # (rows,) 0 .. count - 1
    count: int
    real: np.ndarray  # (count,) bool: False for a row of no user

    @classmethod
    def of(cls, keys: np.ndarray) -> Users:
        """`keys` (rows,) int64, as a batch has them."""
        users, index = np.unique(keys, return_inverse=True)
        index, count = index.reshape(-1).astype(np.int64), len(users)
        real = np.ones(count, bool)
        if count and users[0] == NULL_GROUP:  # the lowest key there is
            nobody = np.flatnonzero(index == 0)
            index[nobody] = count + np.arange(len(nobody))
            index, count = index - 1, count - 1 + len(nobody)
            real = np.arange(count) < len(users) - 1
        return cls(index, count, real)

    @classmethod
    def each_row(cls, rows: int) -> Users:
        """Where nobody knows the users, every row is drawn for itself."""
        return cls(np.arange(rows), rows, np.zeros(rows, bool))


def drawn(users: int, resamples: int, seed: int) -> np.ndarray:
    """(1 + resamples, users): how often each user is drawn; first each once, which is the data as they are."""
    random = np.random.default_rng(seed)
    draws = np.ones((1 + resamples, users), np.float32)
    for row in draws[1:]:
        row[:] = np.bincount(random.integers(users, size=users), minlength=users)
    return draws


class UserMetrics:
    """AUC, GAUC, logloss and NE of scored rows as functions of how often each user was drawn; the rows are sorted once.

    Defined as EvalMetrics defines them, sample weights included.
    """

    def __init__(
        self, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray, users: Users, loss: np.ndarray | None = None
    ) -> None:
        """(rows,) each. `scores`: logits; with `loss` (the logloss of each row) anything of that order."""
        y, w = labels.astype(np.float64), weights.astype(np.float64)
        if loss is None:
            x = scores.astype(np.float64)
            loss = np.logaddexp(0.0, -x) + (1.0 - y) * x
        order = np.argsort(scores, kind="stable")
        self._user = users.index[order]
        self._positive, self._negative = (w * y)[order], (w * (1.0 - y))[order]
        self._ties = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0])
        parts = (w * y, w * (1.0 - y), w * loss)
        # of each user: positives, negatives, loss; weight * AUC and weight where there is an AUC, else 0
        self._sums = np.zeros((users.count, 5))
        self._sums[:, :3] = np.stack([np.bincount(users.index, part, users.count) for part in parts], axis=1)
        keys = exact.per_key(exact.scored_rows(users.index, scores, labels, weights))
        possible = keys.positive * keys.negative
        defined = (possible > 0) & users.real[keys.keys]
        weight = (keys.positive + keys.negative)[defined]
        by_weight = weight * keys.pairs[defined] / possible[defined]
        self._sums[keys.keys[defined], 3:] = np.stack([by_weight, weight], axis=1)

    def at(self, draws: np.ndarray) -> dict[str, np.ndarray]:
        """`draws` (resamples, users) -> (resamples,) of each metric; NaN where it is not defined."""
        positive, negative, loss, auc_sum, auc_weight = np.stack(
            [row.astype(np.float64) @ self._sums for row in draws]
        ).T
        weight = positive + negative
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = np.stack([positive, negative]) / weight
            entropy = -np.where(shares > 0, shares * np.log(shares), 0.0).sum(axis=0)
            logloss = loss / weight
            return {
                "auc": self._pairs(draws) / np.where(positive * negative > 0, positive * negative, np.nan),
                "gauc": auc_sum / np.where(auc_weight > 0, auc_weight, np.nan),
                "logloss": logloss,
                "ne": logloss / np.where(entropy > 0, entropy, np.nan),
            }

    def _pairs(self, draws: np.ndarray) -> np.ndarray:
        """(resamples,) weight of the pairs in the right order; equal scores count half."""
        found = np.empty(len(draws))
        several = max(1, BLOCK // max(1, len(self._user)))
        for start in range(0, len(draws), several):
            times = draws[start : start + several][:, self._user]
            positive, negative = times * self._positive, times * self._negative
            if len(self._ties) < len(self._user):
                positive, negative = (np.add.reduceat(part, self._ties, axis=1) for part in (positive, negative))
            below = np.cumsum(negative, axis=1) - negative / 2
            found[start : start + several] = np.einsum("rn,rn->r", positive, below)
        return found


def percentiles(values: np.ndarray) -> list[float]:
    """The middle LEVEL of the resamples that define the metric; NaN where none does."""
    defined = values[~np.isnan(values)]
    tail = 100 * (1 - LEVEL) / 2
    return np.percentile(defined, [tail, 100 - tail]).tolist() if len(defined) else [float("nan")] * 2
