"""A log of users' events -> the histories of some of its rows. In: users and times of a log, which of its places count as
events and which get a history; out: for each of these the user's newest strictly earlier events, oldest first."""

import numpy as np


class EarlierEvents:
    """Histories of rows of one log; found once for all rows, handed out for a few at a time.

    `keys`, `times`: (log,) integers; `events`, `rows`: places in the log (events,), (rows,); `length`: the most events a
    history keeps. An event at a row's own time does not count; events of one time keep their order in the log.
    """

    def __init__(self, keys: np.ndarray, times: np.ndarray, events: np.ndarray, rows: np.ndarray, length: int) -> None:
        self._events = events[np.lexsort((times[events], keys[events]))]
        # One sort of rows and events together; at equal key and time rows stand first, so that the event is not before them.
        both = np.r_[rows, self._events]
        is_event = np.repeat([False, True], [len(rows), len(events)])
        order = np.lexsort((is_event, times[both], keys[both]))
        before = np.cumsum(is_event[order])
        self._stop = np.empty(len(rows), np.int64)
        self._stop[order[~is_event[order]]] = before[~is_event[order]]
        first = np.searchsorted(keys[self._events], keys[rows], side="left")
        self._start = np.maximum(first, self._stop - length)

    def take(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Histories of the chosen ones of `rows` (n,): offsets (n + 1,) int32 and the events' places in the log, end to end."""
        offsets, places = ragged(self._start[chosen], self._stop[chosen])
        return offsets, self._events[places]


def ragged(start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spans (rows,) -> offsets (rows + 1,) int32 and the places [start_0 .. stop_0 - 1, start_1 .. stop_1 - 1, ...]."""
    offsets = np.r_[0, np.cumsum(stop - start)]
    places = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], stop - start)
    return offsets.astype(np.int32), places
