"""Intervals against SciPy, weighted metrics against scikit-learn on rows repeated as often as they were drawn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import log_loss, roc_auc_score

from benchmarks.quality.statistics import (
    Scored,
    by_user,
    check_same_rows,
    mean_and_spread,
    resampled,
    t_interval,
)
from interformer_rec.metrics.over_users import percentiles


def scored(seed: int, signal: float, rows: int = 600) -> Scored:
    """The same labels and users whatever the arguments; scores with many ties."""
    fixed = np.random.default_rng(0)
    users, labels = fixed.integers(40, size=rows) * 3, fixed.integers(2, size=rows).astype(np.int8)
    noise = np.random.default_rng(seed).normal(size=rows)
    return Scored(labels, np.round(1 / (1 + np.exp(-signal * labels - noise)), 2).astype(np.float32), users)


def test_t_interval_is_scipys():
    values = [0.002, 0.003, 0.0015, 0.004, 0.0025]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert t_interval(values) == pytest.approx([expected.low, expected.high])
    assert t_interval([1.0, 3.0]) == pytest.approx(
        [2 - 12.7062047, 2 + 12.7062047]
    )  # t of 1 degree of freedom, error 1
    assert t_interval([1.0]) is None
    assert mean_and_spread([1.0, 3.0]) == {"mean": 2.0, "std": pytest.approx(2**0.5)}
    assert mean_and_spread([1.0])["std"] is None


def test_metrics_of_drawn_users_are_scikit_learns():
    rows = scored(1, 1.0)
    names, index = np.unique(rows.users, return_inverse=True)
    draws = np.random.default_rng(5).integers(0, 3, size=len(names))
    found = by_user(rows, index, len(names)).at(draws[None])
    repeats = np.repeat(np.arange(len(index)), draws[index])
    labels, scores = rows.labels[repeats], rows.scores[repeats].astype(np.float64)
    assert found["auc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert found["logloss"] == pytest.approx(log_loss(labels, np.clip(scores, 1e-7, 1 - 1e-7)), rel=1e-9)
    parts = [(roc_auc_score(rows.labels[index == u], rows.scores[index == u]), (index == u).sum() * draws[u])
             for u in range(len(names)) if len(set(rows.labels[index == u])) == 2]  # fmt: skip
    assert found["gauc"] == pytest.approx(sum(auc * weight for auc, weight in parts) / sum(w for _, w in parts))


def test_users_of_one_class_do_not_count():
    rows = Scored(np.array([1, 1, 0, 1]), np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 0, 1, 1]))
    assert by_user(rows, rows.users, 2).at(np.array([[5, 1]]))["gauc"] == 1.0
    assert np.isnan(by_user(rows, rows.users, 2).at(np.array([[1, 0]]))["gauc"])


def test_resamples_are_paired():
    """Both systems meet the same users; the order of a system's runs does not matter."""
    weak, strong = [scored(1, 0.8), scored(2, 0.8)], [scored(1, 1.6), scored(2, 1.6)]
    a, b = resampled(strong, 200), resampled(weak, 200)
    low, high = percentiles(a["auc"] - b["auc"])
    assert 0 < low < high < 0.3
    assert np.std(a["auc"] - b["auc"]) < np.std(a["auc"] - b["auc"][::-1])
    assert percentiles(a["logloss"] - resampled(strong[::-1], 200)["logloss"]) == pytest.approx([0, 0], abs=1e-12)


def test_runs_of_other_rows_are_refused():
    other = scored(1, 1.0)
    with pytest.raises(ValueError, match="same rows"):
        check_same_rows([scored(1, 1.0)], [Scored(1 - other.labels, other.scores, other.users)])
