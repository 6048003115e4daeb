"""Metrics as functions of how often each user was drawn agree with scikit-learn on the rows repeated as often."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from interformer_rec.config.features import NULL_GROUP
from interformer_rec.metrics.evaluation import EvalMetrics
from interformer_rec.metrics.over_users import UserMetrics, Users, drawn, percentiles


@pytest.fixture
def rows() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    scores = np.round(random.normal(size=500), 1).astype(np.float32)  # many ties
    keys = random.integers(-3, 30, 500)
    keys[:40] = NULL_GROUP
    labels = (random.random(500) < 1 / (1 + np.exp(-scores))).astype(np.float32)
    return {"scores": scores, "labels": labels, "weights": random.uniform(0, 2, 500).astype(np.float32), "keys": keys}


def test_all_users_once_are_the_metrics_of_an_evaluation(rows):
    metrics = UserMetrics(rows["scores"], rows["labels"], rows["weights"], Users.of(rows["keys"]))
    whole = EvalMetrics(["t"], group=True)
    parts = (rows["scores"][:, None], rows["labels"][:, None], rows["weights"], rows["keys"])
    whole.update(*map(torch.from_numpy, parts))
    expected = whole.compute()
    found = metrics.at(np.ones((1, Users.of(rows["keys"]).count), np.float32))
    assert {name: value[0] for name, value in found.items()} == pytest.approx(
        {name: expected[f"t/{name}"] for name in ("auc", "gauc", "logloss", "ne")}, rel=1e-12
    )


def test_a_resample_is_the_rows_of_its_users_repeated(rows):
    users = Users.of(rows["keys"])
    draws = drawn(users.count, 3, seed=5)
    assert (draws[0] == 1).all() and (draws.sum(axis=1) == users.count).all() and draws[1:].max() > 1
    found = UserMetrics(rows["scores"], rows["labels"], rows["weights"], users).at(draws)
    for number in range(4):
        times = draws[number][users.index].astype(int)
        scores, labels, weights = (np.repeat(rows[name], times) for name in ("scores", "labels", "weights"))
        assert found["auc"][number] == pytest.approx(roc_auc_score(labels, scores, sample_weight=weights))
        probability = 1 / (1 + np.exp(-scores.astype(np.float64)))
        assert found["logloss"][number] == pytest.approx(log_loss(labels, probability, sample_weight=weights))
        aucs, sizes = [], []
        for key in np.unique(rows["keys"][rows["keys"] != NULL_GROUP]):
            of_user = rows["keys"] == key
            if len(set(rows["labels"][of_user])) == 2:
                times_drawn = draws[number][users.index[of_user]][0]
                part = (rows[name][of_user] for name in ("labels", "scores", "weights"))
                aucs.append(roc_auc_score(*list(part)[:2], sample_weight=rows["weights"][of_user]))
                sizes.append(times_drawn * rows["weights"][of_user].sum())
        assert found["gauc"][number] == pytest.approx(np.average(aucs, weights=sizes))


def test_rows_of_nobody_are_drawn_one_by_one_and_have_no_gauc():
    keys = np.array([NULL_GROUP, 7, NULL_GROUP, 7])
    users = Users.of(keys)
    assert users.count == 3 and users.real.tolist() == [True, False, False]
    assert users.index[1] == users.index[3] == 0 and set(users.index[[0, 2]]) == {1, 2}
    labels = np.array([0.5, 0, 0.5, 0], np.float32)  # a row of nobody has both classes here
    found = UserMetrics(np.zeros(4, np.float32), labels, np.ones(4, np.float32), users).at(np.ones((1, 3), np.float32))
    assert np.isnan(found["gauc"][0]) and found["auc"][0] == 0.5


def test_a_metric_that_no_resample_defines_has_no_interval():
    users = Users.each_row(3)
    found = UserMetrics(np.arange(3.0), np.ones(3), np.ones(3), users).at(drawn(users.count, 5, 0))
    assert np.isnan(found["auc"]).all() and np.isnan(percentiles(found["auc"])).all()
    assert percentiles(np.array([np.nan, *range(101)])) == pytest.approx([2.5, 97.5])


def test_noise_has_an_interval_with_zero_in_it_as_often_as_is_said():
    """The AUC that a random input costs, in sixty data sets."""
    inside = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        users = Users.of(random.integers(0, 100, 400))
        labels = random.integers(0, 2, 400).astype(np.float32)
        score, noise = 2 * labels + random.normal(size=400), random.normal(size=400)
        draws, weights = drawn(users.count, 100, seed), np.ones(400, np.float32)
        before, after = (
            UserMetrics((score + part).astype(np.float32), labels, weights, users).at(draws)["auc"]
            for part in (noise, random.permutation(noise))
        )
        low, high = percentiles((before - after)[1:])
        inside += low <= 0 <= high
    assert 54 <= inside < 60
