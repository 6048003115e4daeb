"""Differences, intervals and compute of judged windows with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.quality.statistics import Scored
from benchmarks.timeline.runs import Judged
from benchmarks.timeline.summary import compute, difference, last_third, over_users, summary, targets

WINDOWS = [f"dt={number}" for number in range(6)]
ROWS = 400


def judged(strength: float, cost: float = 1.0, trained: int | None = None) -> dict[str, Judged]:
    """Scores that follow the labels so strongly; the same labels and users for every system."""
    found = {}
    for number, name in enumerate(WINDOWS):
        random = np.random.default_rng(number)
        labels = (random.random(ROWS) < 0.4).astype(np.float32)
        users = random.integers(0, 60, ROWS)
        scores = 1 / (1 + np.exp(-(strength * labels + random.normal(size=ROWS))))
        row = {
            "rows": ROWS,
            "trained_rows": trained or ROWS,
            "auc": float(roc_auc_score(labels, scores)),
            "ne": 1.0 - strength / 10,
            "calibration": 1.1,
            "train_cpu_seconds": cost,
            "admission_cpu_seconds": 0.05,
            "table_bytes": 1000,
        }
        found[name] = Judged(row, Scored(labels, scores, users))
    return found


def test_difference_is_over_windows_of_both():
    ours, theirs = judged(2.0), judged(1.0)
    del theirs[WINDOWS[4]]
    found = difference(ours, theirs, WINDOWS[3:])
    expected = np.mean([ours[name].row["auc"] - theirs[name].row["auc"] for name in (WINDOWS[3], WINDOWS[5])])
    assert found is not None and found["windows"] == 2
    assert found["auc"]["mean"] == pytest.approx(expected)
    low, high = found["auc"]["over_users"]
    assert 0 < low < expected < high
    assert found["ne"]["mean"] == pytest.approx(-0.1) and found["calibration_error"]["mean"] == pytest.approx(0)
    assert difference(ours, {}, WINDOWS) is None


def test_no_difference_has_an_interval_around_nothing():
    same = judged(1.0)
    assert over_users([(same[name].scored, same[name].scored) for name in WINDOWS[:2]], 20) == [0.0, 0.0]
    other = judged(1.0)
    other[WINDOWS[0]].scored.labels[:] = 1
    with pytest.raises(ValueError, match="same rows"):
        over_users([(same[WINDOWS[0]].scored, other[WINDOWS[0]].scored)], 2)


def test_compute_fills_in_what_was_not_retrained():
    ours = judged(1.0, cost=0.95)
    rows = [ROWS * number for number in range(1, 6)]
    costs = {}
    for name, count in zip(WINDOWS[1:], rows, strict=True):
        row = {"train_cpu_seconds": 2.0 * count / ROWS, "trained_rows": count}
        costs[name] = Judged(row, ours[name].scored)
    whole = compute(ours, costs, WINDOWS)
    assert whole["retrained_cpu_seconds"] == pytest.approx(30) and whole["ratio"] == pytest.approx(6 / 30)
    last = compute(ours, {WINDOWS[-1]: costs[WINDOWS[-1]]}, WINDOWS)
    assert last["retrained_cpu_seconds"] == pytest.approx(30) and last["retrained_cpu_seconds_measured"] == 10
    assert last["windows_retrained"] == 1 and last["ratio_of_rows"] == pytest.approx(6 / 15)


def test_targets_are_met_missed_or_not_measured():
    found = {"continued": judged(2.0), "fixed": judged(1.0)}
    result = summary(found, WINDOWS)
    assert result["last_third"] == WINDOWS[4:] and last_third(WINDOWS[:4]) == WINDOWS[2:4]
    assert [target["met"] for target in result["targets"]] == [None, None, True, True, True]
    result["table_bytes"], result["admission_share"] = [1000, 1008], 0.2
    result["compute"] = {"ratio": 0.21}
    result["differences"]["retrained"] = {"auc": {"mean": -0.0011}}
    result["differences"]["fixed"]["auc"]["over_users"] = [-0.1, 0.2]
    assert [target["met"] for target in targets(result)] == [False, False, False, False, False]
