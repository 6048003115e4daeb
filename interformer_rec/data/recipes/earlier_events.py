"""Which of a user's events came strictly before a row. In: keys and times of events and of rows; out: for every row the
newest earlier events of its key, oldest first, as positions."""

from __future__ import annotations

import numpy as np


class EarlierEvents:
    """The events, sorted by key, then time, then place; (events,) integers each. Events at a row's own time do not count."""

    def __init__(self, keys: np.ndarray, times: np.ndarray) -> None:
        self.order = np.lexsort((times, keys))  # stable: equal ones keep their order
        self._keys, self._times = keys[self.order], times[self.order]

    def spans(self, keys: np.ndarray, times: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows' keys and times (rows,) -> start and stop (rows,), places in `order`, at most `length` apart."""
        rows = len(keys)
        # One sort of rows and events together; at equal key and time rows stand first, so that the event is not before them.
        is_event = np.repeat([False, True], [rows, len(self._keys)])
        both = np.lexsort((is_event, np.r_[times, self._times], np.r_[keys, self._keys]))
        before = np.cumsum(is_event[both])
        stop = np.empty(rows, np.int64)
        stop[both[~is_event[both]]] = before[~is_event[both]]
        first = np.searchsorted(self._keys, keys, side="left")
        return np.maximum(first, stop - length), stop

    def positions(self, start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Spans -> offsets (rows + 1,) int32 and positions of the events as they were given, row after row."""
        offsets, places = ragged(start, stop)
        return offsets, self.order[places]


def ragged(start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spans (rows,) -> offsets (rows + 1,) int32 and the places [start_0 .. stop_0 - 1, start_1 .. stop_1 - 1, ...]."""
    offsets = np.r_[0, np.cumsum(stop - start)]
    places = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], stop - start)
    return offsets.astype(np.int32), places
