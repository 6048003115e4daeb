"""Earlier events against a slow loop: ties, no events, rows of unknown keys."""

import numpy as np

from interformer_rec.data.recipes.earlier_events import EarlierEvents, ragged


def test_spans_against_a_slow_loop() -> None:
    generator = np.random.default_rng(3)
    keys, times = generator.integers(0, 6, 300), generator.integers(0, 40, 300)
    row_keys, row_times = generator.integers(0, 8, 200), generator.integers(0, 50, 200)  # keys 6 and 7 have no event
    events = EarlierEvents(keys, times)
    offsets, positions = events.positions(*events.spans(row_keys, row_times, 7))
    for row in range(200):
        earlier = [i for i in range(300) if keys[i] == row_keys[row] and times[i] < row_times[row]]
        wanted = sorted(earlier, key=lambda i: (times[i], i))[-7:]
        assert positions[offsets[row] : offsets[row + 1]].tolist() == wanted


def test_an_event_at_the_rows_own_time_does_not_count() -> None:
    events = EarlierEvents(np.array([1, 1, 2]), np.array([10, 20, 15]))
    offsets, positions = events.positions(*events.spans(np.array([1, 1, 2]), np.array([20, 21, 15]), 9))
    assert offsets.tolist() == [0, 1, 3, 3] and positions.tolist() == [0, 0, 1]


def test_no_rows_and_no_events() -> None:
    none = np.empty(0, np.int64)
    events = EarlierEvents(none, none)
    offsets, positions = events.positions(*events.spans(none, none, 7))
    assert offsets.tolist() == [0] and len(positions) == 0
    offsets, positions = events.positions(*events.spans(np.array([3]), np.array([1]), 7))
    assert offsets.tolist() == [0, 0] and len(positions) == 0


def test_ragged() -> None:
    offsets, places = ragged(np.array([5, 2, 0]), np.array([7, 2, 1]))
    assert offsets.tolist() == [0, 2, 2, 3] and places.tolist() == [5, 6, 0]
