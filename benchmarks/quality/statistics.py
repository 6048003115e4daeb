"""How sure a difference is. In: metrics of seeds, or scores of the same test rows; out: means, spreads, intervals.

Two kinds of chance: training seeds (a paired t interval over them) and the test's users (a paired bootstrap over users, all
seeds averaged in each resample). Both are of A - B, so what is common to both systems drops out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from interformer_rec.metrics.over_users import LEVEL, UserMetrics, Users, drawn

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


def by_user(rows: Scored, user_index: np.ndarray, users: int) -> UserMetrics:
    """Metrics of one run's rows as functions of how often each user was drawn. `user_index` (rows,): 0 .. users - 1."""
    y, probability = rows.labels.astype(np.float64), np.clip(rows.scores.astype(np.float64), 1e-7, 1 - 1e-7)
    loss = -(y * np.log(probability) + (1 - y) * np.log1p(-probability))
    return UserMetrics(rows.scores, rows.labels, np.ones(len(y)), Users(user_index, users, np.ones(users, bool)), loss)


def resampled(runs: Sequence[Scored], resamples: int = RESAMPLES) -> dict[str, np.ndarray]:
    """auc, gauc and logloss, means over one system's runs, in each of the same resamples of the users: (resamples,) each.

    Systems scored on the same rows are drawn alike: subtract theirs from ours, then take `percentiles`.
    """
    _, index = np.unique(runs[0].users, return_inverse=True)
    count = int(index.max()) + 1
    draws = drawn(count, resamples, seed=0)[1:]
    values = [by_user(run, index, count).at(draws) for run in runs]
    return {name: np.mean([value[name] for value in values], axis=0) for name in ("auc", "gauc", "logloss")}


def check_same_rows(ours: Sequence[Scored], theirs: Sequence[Scored]) -> None:
    """Raises ValueError where labels or users of two runs differ: their differences would mean nothing."""
    for run in (*ours, *theirs):
        if not (np.array_equal(run.labels, ours[0].labels) and np.array_equal(run.users, ours[0].users)):
            raise ValueError("the runs were not scored on the same rows in the same order")
