"""Earlier events against a slow loop: ties, no events, rows of keys without events."""

import numpy as np

from interformer_rec.data.recipes.earlier_events import EarlierEvents, ragged


def test_against_a_slow_loop() -> None:
    generator = np.random.default_rng(3)
    keys, times = generator.integers(0, 6, 300), generator.integers(0, 40, 300)
    events = np.flatnonzero((generator.random(300) < 0.5) & (keys != 4))
    rows = generator.permutation(300)[:200]
    offsets, places = EarlierEvents(keys, times, events, rows, 7).take(np.arange(200))
    assert 4 in keys[rows] and np.diff(offsets).max() == 7
    for n, row in enumerate(rows):
        earlier = [i for i in events if keys[i] == keys[row] and times[i] < times[row]]
        assert places[offsets[n] : offsets[n + 1]].tolist() == sorted(earlier, key=lambda i: (times[i], i))[-7:]


def test_an_event_at_the_rows_own_time_does_not_count() -> None:
    everything = np.arange(4)
    histories = EarlierEvents(np.array([1, 1, 2, 1]), np.array([10, 20, 15, 20]), everything, everything, 9)
    offsets, places = histories.take(np.array([3, 2, 1, 0]))
    assert offsets.tolist() == [0, 1, 1, 2, 2] and places.tolist() == [0, 0]


def test_no_rows_and_no_events() -> None:
    none = np.empty(0, np.int64)
    offsets, places = EarlierEvents(none, none, none, none, 7).take(none)
    assert offsets.tolist() == [0] and len(places) == 0
    offsets, places = EarlierEvents(np.array([3]), np.array([1]), none, np.array([0]), 7).take(np.array([0]))
    assert offsets.tolist() == [0, 0] and len(places) == 0


def test_ragged() -> None:
    offsets, places = ragged(np.array([5, 2, 0]), np.array([7, 2, 1]))
    assert offsets.tolist() == [0, 2, 2, 3] and places.tolist() == [5, 6, 0]
