"""Recalibration against scikit-learn's logistic regression, its metrics, and what cannot be recalibrated."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from interformer_rec.errors import DamagedError
from interformer_rec.metrics.evaluation import EvalMetrics
from interformer_rec.metrics.recalibration import AS_IT_IS, recalibrated, scale_and_shift

ROWS = 4000
RANDOM = np.random.default_rng(1)
LOGITS = RANDOM.normal(size=(ROWS, 2)).astype(np.float32)
# too far apart by 2.5 and too high by 1: the first label; right: the second
TRUE = 1 / (1 + np.exp(-np.stack([0.4 * LOGITS[:, 0] - 1.0, LOGITS[:, 1]], 1)))
LABELS = (RANDOM.random((ROWS, 2)) < TRUE).astype(np.float32)
WEIGHTS = RANDOM.choice([0.0, 0.5, 2.0], ROWS).astype(np.float32)


def metrics_of(logits: np.ndarray, labels: np.ndarray = LABELS) -> EvalMetrics:
    metrics = EvalMetrics(["click", "like"], group=True)
    parts = (torch.from_numpy(part) for part in (logits, labels, WEIGHTS, np.arange(ROWS, dtype=np.int64) % 50))
    metrics.update(*parts)
    return metrics


def test_the_line_is_that_of_a_logistic_regression() -> None:
    lines = metrics_of(LOGITS).recalibrate()
    for index, line in enumerate(lines.values()):
        model = LogisticRegression(C=1e9, tol=1e-10).fit(
            LOGITS[:, [index]].astype(float), LABELS[:, index], sample_weight=WEIGHTS
        )
        assert line == pytest.approx((model.coef_[0, 0], model.intercept_[0]), abs=1e-4)
    assert lines["click"] == pytest.approx((0.4, -1.0), abs=0.15)


def test_order_stays_and_logloss_is_better() -> None:
    metrics = metrics_of(LOGITS)
    before = metrics.compute()
    lines = metrics.recalibrate()
    after = metrics.compute()
    for label in lines:
        for name in ("auc", "gauc"):
            assert after[f"{label}/{name}"] == pytest.approx(before[f"{label}/{name}"], abs=1e-6)
        assert after[f"{label}/calibration"] == pytest.approx(1, abs=1e-3)
    assert before["click/ne"] > 1 > after["click/ne"]
    scored = metrics_of(recalibrated(LOGITS, scale_and_shift(lines, ("click", "like")))).compute()
    assert scored == pytest.approx(after, rel=1e-6)


def test_scores_that_say_nothing_stay_as_they_are() -> None:
    upside_down = np.stack([-LOGITS[:, 0], LOGITS[:, 1]], 1)
    one_class = np.stack([LABELS[:, 0], np.ones(ROWS, np.float32)], 1)
    broken = LOGITS.copy()
    broken[3, 1] = np.nan
    for logits, labels, label in (
        (upside_down, LABELS, "click"),
        (LOGITS, one_class, "like"),
        (broken, LABELS, "like"),
    ):
        metrics = metrics_of(logits, labels)
        before = metrics.compute()
        assert metrics.recalibrate()[label] == AS_IT_IS
        after = metrics.compute()
        assert after[f"{label}/logloss"] == pytest.approx(before[f"{label}/logloss"], nan_ok=True)


@pytest.mark.parametrize("lines", [{"click": (1.0, 0.0)}, {"click": (-1.0, 0.0), "like": (1.0, 0.0)}])
def test_lines_of_another_model_are_refused(lines: dict) -> None:
    with pytest.raises(DamagedError, match="recalibration"):
        scale_and_shift(lines, ("click", "like"))
