"""Exact metrics against scikit-learn and slow loops, on one rank and on gloo ranks with skewed and empty shares."""

from __future__ import annotations

import functools
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from interformer_rec.config.features import NULL_GROUP
from interformer_rec.distributed.environment import Environment
from interformer_rec.metrics.evaluation import EvalMetrics, IntervalMetrics
from interformer_rec.metrics.exact import scored_rows, spread
from interformer_rec.metrics.ranks import Ranks
from tests.launch import on_ranks

TASKS = ["click", "like"]
PARTS = ("logits", "labels", "weights", "groups", "requests")
Rows = dict[str, np.ndarray]


def draw(seed: int, rows: int = 300, users: int = 40, ties: bool = False) -> Rows:
    """Rows whose logits say something about the labels; users of very different sizes, some with one class only."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, len(TASKS))).astype(np.float32)
    labels = (rng.random((rows, len(TASKS))) < 1 / (1 + np.exp(-1.5 * logits))).astype(np.float32)
    if ties:
        logits = np.round(logits)
    groups = np.floor(users * rng.random(rows) ** 3).astype(np.int64) * 2**53 - 2**62
    weights = rng.choice([0.0, 0.25, 1.0, 3.7], rows).astype(np.float32)
    requests = np.sort(rng.integers(0, rows // 5 + 1, rows))  # side by side, so that batches and ranks divide some
    return {"logits": logits, "labels": labels, "weights": weights, "groups": groups, "requests": requests}


@functools.cache
def cases() -> dict[str, Rows]:
    """Name -> the union of all ranks' rows."""
    one_user, one_score, soft = draw(3), draw(4), draw(8)
    one_user["groups"][:] = 7
    one_score["logits"][:] = 0.5
    one_class, no_weight, not_finite = draw(5), draw(6), draw(7)
    one_class["labels"][:, 0] = 1
    no_weight["weights"][:] = 0
    not_finite["logits"][11, 0] = np.nan
    soft["labels"] = np.random.default_rng(8).random(soft["labels"].shape).astype(np.float32)
    null_users = draw(11)
    null_users["groups"][np.random.default_rng(11).random(300) < 0.4] = NULL_GROUP
    signed_zero = {**draw(9), "logits": np.where(draw(9)["logits"] > 0, 0.0, -0.0).astype(np.float32)}
    return {
        "plain": draw(1, rows=320),
        "ties": draw(2, ties=True),
        "few_rows": draw(10, rows=5),
        "no_rows": draw(1, rows=0),
        "one_user": one_user,
        "one_score": one_score,
        "one_class": one_class,
        "no_weight": no_weight,
        "not_finite": not_finite,
        "soft": soft,
        "signed_zero": signed_zero,
        "null_users": null_users,
    }


SHARES = {"even": [1, 1, 1, 1], "skewed": [20, 1, 3, 1], "empty_rank": [1, 0, 1, 2], "all_on_last": [0, 0, 0, 1]}


def shares_of(name: str) -> list[str]:
    """All ways to divide for the cases where it could matter, else the hardest: every pair costs collectives."""
    return list(SHARES) if name in ("plain", "ties", "one_user") else ["empty_rank"]


def share(rows: Rows, rank: int, world: int, name: str) -> Rows:
    """The contiguous part of the rows that a rank has."""
    parts = np.array(SHARES[name][4 - world :], float)
    ends = np.round(np.cumsum(parts) / parts.sum() * len(rows["weights"])).astype(int)
    start = ends[rank - 1] if rank else 0
    return {key: value[start : ends[rank]] for key, value in rows.items()}


def measure(rows: Rows, **options: Any) -> EvalMetrics:
    """Feed the rows in batches of 64."""
    metrics = EvalMetrics(TASKS, group=True, request=True, **options)
    for start in range(0, len(rows["weights"]), 64):
        metrics.update(*(torch.from_numpy(rows[key][start : start + 64]) for key in PARTS))
    return metrics


@functools.cache
def expected_of(name: str) -> dict[str, float]:
    """Of a case by name: the loops are slow."""
    return expected(cases()[name])


def expected(rows: Rows) -> dict[str, float]:
    """The same metrics by scikit-learn and loops over users, NaN where they are not defined."""
    without = float((rows["groups"] == NULL_GROUP).sum())
    result = {"rows": float(len(rows["weights"])), "rows_without_group": without}
    for index, task in enumerate(TASKS):
        x, y = rows["logits"][:, index].astype(np.float64), rows["labels"][:, index].astype(np.float64)
        w, groups = rows["weights"].astype(np.float64), rows["groups"]
        names = ("auc", "gauc", "gauc_request", "logloss", "ne", "calibration", "base_rate")
        if not (w.sum() > 0 and np.isfinite(x).all()):
            result.update({f"{task}/{name}": math.nan for name in names})
            continue
        # A soft label is a positive and a negative row in one place.
        scores, classes = np.concatenate([x, x]), np.repeat([1, 0], len(x))
        weights = np.concatenate([w * y, w * (1 - y)])
        one_class = min(weights[: len(x)].sum(), weights[len(x) :].sum()) == 0
        p, rate = 1 / (1 + np.exp(-scores)), (w @ y) / w.sum()
        loss = log_loss(classes, p, sample_weight=weights, labels=[0, 1])
        entropy = math.nan if one_class else -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)
        values = (
            math.nan if one_class else roc_auc_score(classes, scores, sample_weight=weights),
            slow_gauc(x, y, w, np.where(groups == NULL_GROUP, np.nan, groups)),
            slow_gauc(x, y, w, rows["requests"].astype(np.float64)),
            loss,
            loss / entropy,
            w @ p[: len(x)] / (w @ y),
            rate,
        )
        result.update({f"{task}/{name}": value for name, value in zip(names, values, strict=True)})
    return result


def slow_gauc(x: np.ndarray, y: np.ndarray, w: np.ndarray, groups: np.ndarray) -> float:
    """Group by group; NaN is none."""
    mine = [groups == group for group in np.unique(groups[~np.isnan(groups)])]
    found = [(slow_auc(x[rows], y[rows], w[rows]), w[rows].sum()) for rows in mine]
    found = [(auc, weight) for auc, weight in found if not math.isnan(auc)]
    return sum(a * weight for a, weight in found) / sum(weight for _, weight in found) if found else math.nan


def slow_auc(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    """Every pair of rows, one after the other."""
    right = possible = 0.0
    for i in range(len(x)):
        for j in range(len(x)):
            pair = w[i] * y[i] * w[j] * (1 - y[j])
            possible += pair
            right += pair * (1.0 if x[i] > x[j] else 0.5 if x[i] == x[j] else 0.0)
    return right / possible if possible > 0 else math.nan


def assert_close(got: dict[str, float], want: dict[str, float]) -> None:
    assert set(got) == set(want)
    for name, value in want.items():
        assert got[name] == pytest.approx(value, rel=1e-9, abs=1e-12, nan_ok=True), name


@pytest.mark.parametrize("name", cases())
def test_one_rank_without_process_group(name: str) -> None:
    assert_close(measure(cases()[name]).compute(), expected_of(name))


def _computed(env: Environment) -> dict[str, Any]:
    """Everything that the tests compare, of one rank."""
    rank, world = env.rank, env.world_size
    results: dict[str, Any] = {}
    for name, rows in cases().items():
        for shares in shares_of(name):
            metrics = measure(share(rows, rank, world, shares))
            results[f"{name} {shares}"] = [metrics.compute(), metrics.calibration_bins("like", 7)]
    sizes = {}
    for name in ("plain", "one_user", "ties"):
        rows = share(cases()[name], rank, world, "skewed")
        mine = scored_rows(rows["groups"], rows["logits"][:, 0], rows["labels"][:, 0], rows["weights"])
        sizes[name] = [len(mine.keys), len(spread(mine, Ranks()).keys)]
    results["sizes"] = sizes
    interval = IntervalMetrics(TASKS, torch.device("cpu"))
    _feed_interval(interval, share(cases()["plain"], rank, world, "even"))
    results["interval"] = interval.compute()
    results["empty interval"] = interval.compute()
    return results


def _feed_interval(interval: IntervalMetrics, rows: Rows) -> None:
    """Two steps, each with the rank's own loss; a filler batch at the end."""
    half = len(rows["weights"]) // 2
    for part in (slice(0, half), slice(half, None)):
        logits, labels, weights = (torch.from_numpy(rows[key][part]) for key in ("logits", "labels", "weights"))
        interval.update(logits.mean(), logits, labels, weights, len(weights))
    interval.update(torch.zeros(()), torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1), 0)


@pytest.fixture(scope="module", params=[1, 2, 4])
def ranks(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """What each of 1, 2 or 4 gloo ranks computed."""
    return on_ranks(request.param, _computed)


def test_ranks_agree_to_the_bit(ranks: list[dict[str, Any]]) -> None:
    for other in ranks[1:]:
        for name in ranks[0].keys() - {"sizes"}:
            assert json.dumps(other[name]) == json.dumps(ranks[0][name]), name


@pytest.mark.parametrize("name", cases())
def test_ranks_compute_the_union(ranks: list[dict[str, Any]], name: str) -> None:
    rows = cases()[name]
    want, bins = expected_of(name), measure(rows).calibration_bins("like", 7)
    for shares in shares_of(name):
        got, got_bins = ranks[0][f"{name} {shares}"]
        assert_close(got, want)
        assert len(got_bins) == len(bins)
        for one, other in zip(got_bins, bins, strict=True):
            assert one == pytest.approx(other, rel=1e-9)


def test_ranges_are_even_however_skewed(ranks: list[dict[str, Any]]) -> None:
    """One user with all rows, heavy ties and one rank with most rows: no rank ends with much more than its share."""
    for name, distinct in (("plain", 1.5), ("one_user", 1.5), ("ties", 2.0)):
        after = [rank["sizes"][name][1] for rank in ranks]
        assert max(after) <= distinct * sum(after) / len(after) + 2, (name, after)


def test_interval_over_ranks(ranks: list[dict[str, Any]]) -> None:
    rows = cases()["plain"]
    want = expected_of("plain")
    got = ranks[0]["interval"]
    assert got["rows"] == len(rows["weights"])
    for task in TASKS:
        for name in ("ne", "calibration"):
            assert got[f"{task}/{name}"] == pytest.approx(want[f"{task}/{name}"], rel=1e-9)
    assert got["ne"] == pytest.approx((want["click/ne"] + want["like/ne"]) / 2, rel=1e-9)
    steps = np.array_split(rows["logits"], 2 * len(ranks))
    assert got["loss"] == pytest.approx(sum(step.mean() for step in steps) / (3 * len(ranks)), rel=1e-5)
    empty = ranks[0]["empty interval"]
    assert empty["rows"] == 0 and math.isnan(empty["loss"]) and math.isnan(empty["ne"])


def test_calibration_bins_of_equal_weight() -> None:
    rows = draw(12, rows=4000)
    bins = measure(rows).calibration_bins("click", 10)
    total = rows["weights"].astype(np.float64).sum()
    assert sum(one["weight"] for one in bins) == pytest.approx(total)
    assert all(abs(one["weight"] - total / 10) < 4 for one in bins)  # a border moves by a row's weight at most
    means = [one["mean_score"] for one in bins]
    assert means == sorted(means)
    positives = rows["weights"].astype(np.float64) @ rows["labels"][:, 0]
    assert sum(one["weight"] * one["mean_label"] for one in bins) == pytest.approx(positives)


def test_rows_may_be_added_after_compute() -> None:
    rows = draw(13)
    first, second = ({key: value[part] for key, value in rows.items()} for part in (slice(0, 100), slice(100, None)))
    metrics = measure(first)
    assert_close(metrics.compute(), expected(first))
    metrics.update(*(torch.from_numpy(second[key]) for key in PARTS))
    assert_close(metrics.compute(), expected(rows))


def test_without_groups_there_is_no_gauc_and_batches_are_not_kept() -> None:
    metrics = EvalMetrics(["click"], group=False)
    logits = torch.tensor([[0.0], [1.0], [2.0]])
    labels = torch.tensor([[0.0], [1.0], [1.0]])
    metrics.update(logits, labels, torch.ones(3), torch.zeros(3, dtype=torch.int64))
    logits.fill_(5.0)
    labels.fill_(0.0)
    got = metrics.compute()
    assert got["click/auc"] == 1.0 and got["rows"] == 3.0
    assert not {"click/gauc", "click/gauc_request"} & set(got)


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"\(3, 2\)"):
        EvalMetrics(TASKS, group=False).update(torch.zeros(3, 1), torch.zeros(3, 1), torch.ones(3), torch.zeros(3))
