"""Where each user's events lie in a store's files, and where they go. In: the columns of users and times; out: Users.

A user's events may lie in several files, such as one a day: file after file, by name, they have to be oldest first. They are laid side by
side when the store is unpacked.
"""

from dataclasses import dataclass

import numpy as np

from interformer_rec.data.event_store.keys import time_keys, user_keys
from interformer_rec.data.files.source import Source
from interformer_rec.data.grouping.reading import where
from interformer_rec.errors import InputError

ORDER = "A user's events must be oldest first, file after file by name: write the store with `interformer data events`"
Places = np.ndarray | slice  # of events, in the order in which they are unpacked


@dataclass(frozen=True)
class Users:
    """Events of a user that lie side by side in the files are a run."""

    keys: np.ndarray  # (users,) int64, rising
    begins: np.ndarray  # (users,) int64: the place of a user's first event
    ends: np.ndarray  # (users,) int64
    runs: np.ndarray  # (runs,) int64, rising: where a run begins in the files
    shifts: np.ndarray  # (runs,) int64: how much further its events go

    def places(self, start: int, stop: int) -> Places:
        """Of the events start .. stop-1 of the files."""
        if not self.shifts.any():
            return slice(start, stop)
        events = np.arange(start, stop)
        return events + self.shifts[np.searchsorted(self.runs, events, side="right") - 1]


def users_of(source: Source, user: str, time: str) -> Users:
    """One pass, a row group at a time. Raises InputError for an event without a user or a time, or older than the user's before it."""
    at, last = 0, None
    keys, begins, firsts, before = ([np.zeros(0, np.int64)] for _ in range(4))
    for group in range(len(source.group_rows)):
        table = source.read([group], tuple(dict.fromkeys((user, time))), strings=True)
        (key, unknown), (when, timeless) = user_keys(table[user]), time_keys(table[time])
        for column, mask in ((user, unknown), (time, timeless)):
            if mask is not None and mask.any():
                row = at + int(np.argmax(mask))
                raise InputError(
                    f"an event without {column!r}: {where(source, row)}. Leave such events out of the store"
                )
        last_key, last_time = last if last is not None else (key[0], when[0])
        same = np.append(last_key, key[:-1]) == key
        same[0] &= last is not None
        previous = np.append(last_time, when[:-1])
        if (wrong := same & (when < previous)).any():
            raise _older(source, at + int(np.argmax(wrong)))
        starts = np.flatnonzero(~same)
        keys.append(key[starts])
        begins.append(starts + at)
        firsts.append(when[starts])
        before.append(previous[starts])  # the time of the last event of the run before
        last, at = (key[-1], when[-1]), at + len(key)
    if last is not None:
        before.append(np.array([last[1]]))
    lasts = np.concatenate(before)[1:]
    return _side_by_side(source, at, np.concatenate(keys), np.concatenate(begins), np.concatenate(firsts), lasts)


def _side_by_side(
    source: Source, count: int, keys: np.ndarray, begins: np.ndarray, firsts: np.ndarray, lasts: np.ndarray
) -> Users:
    """Of the runs' users, places, and times of their first and last events."""
    order = np.argsort(keys, kind="stable")
    again = keys[order][1:] == keys[order][:-1]
    wrong = np.flatnonzero(again & (firsts[order][1:] < lasts[order][:-1]))
    if len(wrong):
        raise _older(source, int(begins[order[wrong[0] + 1]]))
    lengths = np.diff(np.append(begins, count))
    ends = np.cumsum(lengths[order])
    shifts = np.empty(len(keys), np.int64)
    shifts[order] = ends - lengths[order] - begins[order]
    first, last = np.append(True, ~again)[: len(keys)], np.append(~again, True)[: len(keys)]
    return Users(keys[order][first], (ends - lengths[order])[first], ends[last], begins, shifts)


def _older(source: Source, place: int) -> InputError:
    return InputError(f"an event that is older than one of the same user before it: {where(source, place)}. {ORDER}")
