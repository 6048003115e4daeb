"""Balanced orders: every row once, runs of any place and length cost about the same, and nothing else is skewed."""

from __future__ import annotations

import numpy as np
import pytest

from interformer_rec.config.features import NULL_GROUP
from interformer_rec.data.balance import STRATA, events, spread, together
from interformer_rec.data.decode.jagged import Jagged

ROWS = 20_000


def zipf(rows: int = ROWS) -> np.ndarray:
    """Lengths up to 1,000: most are short, some are very long."""
    return np.minimum(np.random.default_rng(0).zipf(1.3, rows), 1000)


def runs(values: np.ndarray, size: int, start: int) -> np.ndarray:
    """Sums of neighbours, `size` at a time, from `start` on."""
    count = (len(values) - start) // size
    return values[start : start + count * size].reshape(count, size).sum(1)


@pytest.mark.parametrize("rows", [0, 1, 2, 15, 16, 17, 100, 2047, 2048, 5000])
def test_every_row_once(rows):
    for lengths in (zipf(rows), np.zeros(rows, np.int64), np.arange(rows) * 100_000):
        order = spread(lengths, np.random.default_rng(1))
        assert sorted(order.tolist()) == list(range(rows))


@pytest.mark.parametrize(("size", "most"), [(STRATA, 1.05), (8 * STRATA, 1.01), (100, 1.25), (1000, 1.03)])
@pytest.mark.parametrize("start", [0, 77])
def test_runs_cost_the_same_wherever_they_begin(size, most, start):
    lengths = zipf()
    order = spread(lengths, np.random.default_rng(2))
    plain = runs(lengths[np.random.default_rng(2).permutation(ROWS)], size, start)
    ours = runs(lengths[order], size, start)
    assert ours.max() < most * ours.mean()
    assert ours.std() < plain.std() / 5
    squares = runs(lengths[order] ** 2, size, start)  # what attention costs
    assert squares.std() < runs(lengths[np.random.default_rng(2).permutation(ROWS)] ** 2, size, start).std() / 5


def test_a_place_is_as_likely_to_get_one_row_as_another():
    """Of 256 rows in 32 strata, over many seeds: the mean number of the row at each place, and how often each row comes first."""
    lengths = np.arange(256)
    orders = np.stack([spread(lengths, np.random.default_rng(seed)) for seed in range(4000)])
    error = 256 / np.sqrt(12 * 4000)  # standard deviation of the mean of a uniform number
    assert np.abs(orders.mean(0) - 127.5).max() < 5 * error
    first = np.bincount(orders[:, 0], minlength=256)
    assert first.std() < 1.3 * np.sqrt(4000 / 256)  # as many as for independent draws


def test_labels_of_a_batch_are_not_biased():
    """A label that goes with the length: over many shuffles a batch's mean is that of all rows, and varies less than in a plain shuffle."""
    lengths = zipf(4096)
    random = np.random.default_rng(3)
    labels = (random.random(4096) < 0.2 + 0.6 * (lengths > 50)).astype(float)
    ours, plain = [], []
    for seed in range(300):
        ours.append(labels[spread(lengths, np.random.default_rng(seed))][1000:1256].mean())
        plain.append(labels[np.random.default_rng(seed).permutation(4096)][1000:1256].mean())
    assert abs(np.mean(ours) - labels.mean()) < 4 * np.std(ours) / np.sqrt(300)
    assert np.std(ours) < 0.95 * np.std(plain)


def test_rows_of_a_stratum_meet_at_random():
    """Which of the equal rows go together is as random as in a plain shuffle: pairs in one batch differ between seeds."""
    lengths = np.repeat([1, 10, 100, 1000], 256)
    batches = [set(spread(lengths, np.random.default_rng(seed))[:128].tolist()) for seed in range(50)]
    shared = [len(a & b) for i, a in enumerate(batches) for b in batches[:i]]
    assert np.mean(shared) == pytest.approx(128 * 128 / 1024, rel=0.1)


def test_events_of_all_histories_count():
    a, b = (Jagged(np.array(lengths), np.zeros((sum(lengths), 2))) for lengths in ([1, 0, 3], [0, 5, 1]))
    assert events([a, b], 3).tolist() == [1, 5, 4]
    assert events([], 2).tolist() == [0, 0]


def test_rows_without_a_group_are_not_kept_together():
    groups = np.where(np.arange(4000) % 2, np.arange(4000) // 8, NULL_GROUP)
    order = together(groups, np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(4000))
    known = groups[order][groups[order] != NULL_GROUP]
    assert len(np.flatnonzero(np.diff(known))) == 499  # each of the 500 groups in one run
    share = (groups[order] == NULL_GROUP).reshape(20, 200).mean(1)
    assert share.min() > 0.3 and share.max() < 0.7
