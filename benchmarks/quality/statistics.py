"""How sure a difference is. In: metrics of seeds, or scores of the same test rows; out: means, spreads, intervals.

Two kinds of chance: training seeds (a paired t interval over them) and the test's users (a paired bootstrap over users, all
seeds averaged in each resample). Both are of A - B, so what is common to both systems drops out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95
RESAMPLES = 1000


def mean_and_spread(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and sample standard deviation (None of one value)."""
    return {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)) if len(values) > 1 else None}


def t_interval(differences: Sequence[float]) -> list[float] | None:
    """Of the mean of paired differences, Student's t with n - 1 degrees of freedom; None of fewer than two."""
    if len(differences) < 2:
        return None
    mean, error = float(np.mean(differences)), float(stats.sem(differences))
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(differences) - 1)) * error
    return [mean - reach, mean + reach]


@dataclass(frozen=True)
class Scored:
    """One run's test rows: labels, scores (probabilities) and users, each (rows,)."""

    labels: np.ndarray
    scores: np.ndarray
    users: np.ndarray


class WeightedMetrics:
    """AUC, GAUC and logloss of one run's rows as functions of how often each user was drawn; sorted once."""

    def __init__(self, rows: Scored, user_index: np.ndarray, users: int) -> None:
        """`user_index` (rows,): 0 .. users - 1."""
        order = np.argsort(rows.scores, kind="stable")
        self.labels, self.user = rows.labels[order].astype(np.float64), user_index[order]
        self.ties = np.flatnonzero(np.r_[True, np.diff(rows.scores[order]) != 0])
        probability = np.clip(rows.scores[order].astype(np.float64), 1e-7, 1 - 1e-7)
        self.loss = -(self.labels * np.log(probability) + (1 - self.labels) * np.log1p(-probability))
        self.user_auc, self.user_rows = self._users(rows, user_index, users)

    def at(self, draws: np.ndarray) -> dict[str, float]:
        """`draws` (users,): times each user was drawn. NaN where a metric is not defined."""
        weights = draws[self.user].astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            return {
                "auc": self._auc(weights),
                "gauc": float((draws * self.user_rows * self.user_auc).sum() / (draws * self.user_rows).sum()),
                "logloss": float((weights * self.loss).sum() / weights.sum()),
            }

    def _auc(self, weights: np.ndarray) -> float:
        """Rank statistic with weights; equal scores count half."""
        positive = np.add.reduceat(weights * self.labels, self.ties)
        negative = np.add.reduceat(weights * (1 - self.labels), self.ties)
        below = np.cumsum(negative) - negative / 2
        return float((positive * below).sum() / (positive.sum() * negative.sum()))

    @staticmethod
    def _users(rows: Scored, user_index: np.ndarray, users: int) -> tuple[np.ndarray, np.ndarray]:
        """AUC (0 where undefined) and rows (0 likewise) of each user."""
        order = np.lexsort((rows.scores, user_index))
        user, label = user_index[order], rows.labels[order].astype(np.float64)
        first = np.searchsorted(user, np.arange(users))
        positives = np.bincount(user, label, users)
        counts = np.bincount(user, minlength=users).astype(np.float64)
        run = np.flatnonzero(np.r_[True, (np.diff(user) != 0) | (np.diff(rows.scores[order]) != 0)])
        length = np.diff(np.r_[run, len(user)])
        place = np.repeat(run + (length - 1) / 2, length) - first[user] + 1  # mid-ranks within the user
        negatives = counts - positives
        wins = np.bincount(user, label * place, users) - positives * (positives + 1) / 2
        defined = (positives > 0) & (negatives > 0)
        auc = np.divide(wins, positives * negatives, out=np.zeros(users), where=defined)
        return auc, np.where(defined, counts, 0.0)


def resampled(runs: Sequence[Scored], resamples: int = RESAMPLES) -> dict[str, np.ndarray]:
    """auc, gauc and logloss, means over one system's runs, in each of the same resamples of the users: (resamples,) each.

    Systems scored on the same rows are drawn alike: subtract theirs from ours, then take `percentiles`.
    """
    _, index = np.unique(runs[0].users, return_inverse=True)
    users = int(index.max()) + 1
    prepared = [WeightedMetrics(run, index, users) for run in runs]
    random = np.random.default_rng(0)
    found = {name: np.empty(resamples) for name in ("auc", "gauc", "logloss")}
    for number in range(resamples):
        draws = np.bincount(random.integers(users, size=users), minlength=users)
        values = [run.at(draws) for run in prepared]
        for name, column in found.items():
            column[number] = np.mean([value[name] for value in values])
    return found


def percentiles(values: np.ndarray) -> list[float]:
    """The middle LEVEL of the resamples."""
    tail = 100 * (1 - LEVEL) / 2
    return [float(value) for value in np.nanpercentile(values, [tail, 100 - tail])]


def check_same_rows(ours: Sequence[Scored], theirs: Sequence[Scored]) -> None:
    """Raises ValueError where labels or users of two runs differ: their differences would mean nothing."""
    for run in (*ours, *theirs):
        if not (np.array_equal(run.labels, ours[0].labels) and np.array_equal(run.users, ours[0].users)):
            raise ValueError("the runs were not scored on the same rows in the same order")
