"""Averages over windows: as if the rows of all windows had been one set, and the same after a stop."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn.metrics import log_loss

from interformer_rec.errors import DamagedError
from interformer_rec.training.windows.totals import Totals


def window(random: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Labels, probabilities, and their sums."""
    scores = random.uniform(0.05, 0.95, rows)
    labels = (random.random(rows) < scores).astype(float)
    loss = -np.log(np.where(labels == 1, scores, 1 - scores)).sum()
    return labels, scores, [labels.sum(), (1 - labels).sum(), scores.sum(), float(loss), 0.0]


def test_sums_are_of_all_rows() -> None:
    random = np.random.default_rng(0)
    totals, again, labels, scores = Totals(["click"]), Totals(["click"]), list[float](), list[float]()
    for rows, auc in ((10, 0.6), (90, 0.7), (40, math.nan)):
        y, p, sums = window(random, rows)
        totals.add({"click/auc": auc}, {"click": sums})
        again.load_state(json.loads(json.dumps(totals.state())))
        labels, scores = [*labels, *y], [*scores, *p]
    found = totals.metrics()
    assert found == again.metrics() and again.windows == 3
    assert found["all/click/logloss"] == pytest.approx(log_loss(labels, scores))
    assert found["all/click/calibration"] == pytest.approx(sum(scores) / sum(labels))
    assert found["all/click/base_rate"] == pytest.approx(np.mean(labels))
    assert found["all/click/auc"] == pytest.approx((10 * 0.6 + 90 * 0.7) / 100)
    assert "all/click/gauc" not in found


def test_nothing_is_said_before_the_first() -> None:
    assert Totals(["click"]).metrics() == {}


def test_the_state_of_a_release_with_fewer_metrics() -> None:
    totals, older = Totals(["click"]), Totals(["click"])
    older.add({"click/auc": 0.6}, {"click": [1.0, 1.0, 1.0, 1.0, 0.0]})
    state = older.state()
    del state["means"]["click"]["gauc_request"]
    totals.load_state(json.loads(json.dumps(state)))
    totals.add({"click/auc": 0.7, "click/gauc_request": 0.8}, {"click": [1.0, 1.0, 1.0, 1.0, 0.0]})
    found = totals.metrics()
    assert found["all/click/auc"] == pytest.approx(0.65) and found["all/click/gauc_request"] == pytest.approx(0.8)


def test_the_state_of_another_run() -> None:
    with pytest.raises(DamagedError, match="of other labels than the run's"):
        Totals(["click"]).load_state(Totals(["buy"]).state())
