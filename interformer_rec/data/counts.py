"""How often each id occurs. In: id columns of row groups; out: the vocabulary of a table, most frequent id first."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from interformer_rec.data.decode.arrays import Lists, Mask, is_list, lists
from interformer_rec.data.decode.id_values import NULL_KIND, id_kind, integers, strings

Counted = tuple[np.ndarray | list[str], np.ndarray]  # distinct ids and how often each occurs
MERGE = 1 << 20  # distinct ids waiting before they are merged, at least


def count_ids(column: pa.ChunkedArray, times: np.ndarray | None = None) -> list[Counted]:
    """Distinct ids of a column or of its lists; nulls and what is no id (bad rows, which are the loader's) are left out; an id may be
    in several parts. `times`: (rows,) how often each row counts (a request's, for each of its candidates); default: once."""
    values = column
    if is_list(column.type):
        read = lists(column)
        values = read.values
        times = None if times is None else _of_elements(read, times)
    kind = id_kind(values.type)
    if kind == NULL_KIND:
        return []
    if kind != "string":
        ids, null, wrong, _ = integers(values)
        left_out = _either(null, wrong)
        kept = slice(None) if left_out is None else ~left_out
        return [_count_ints(ids[kept], None if times is None else times[kept])]
    parts: list[Counted] = []
    begin = 0
    for distinct, indices, null, wrong in strings(values):
        left_out = _either(null, wrong)
        kept = slice(None) if left_out is None else ~left_out
        weights = None if times is None else times[begin : begin + len(indices)][kept]
        begin += len(indices)
        occurs = _bincount(indices[kept], weights, len(distinct))
        used = np.flatnonzero(occurs)
        parts.append((distinct.take(pa.array(used)).to_pylist(), occurs[used]))
    return parts


def _of_elements(read: Lists, times: np.ndarray) -> np.ndarray:
    """(values,) how often each element of the lists counts; those of no row never."""
    out = np.zeros(len(read.values), np.int64)
    inside = np.arange(int(read.lengths.sum())) - np.repeat(np.cumsum(read.lengths) - read.lengths, read.lengths)
    out[np.repeat(read.starts, read.lengths) + inside] = np.repeat(times, read.lengths)
    return out


def _bincount(places: np.ndarray, weights: np.ndarray | None, size: int) -> np.ndarray:
    """(size,) int64; exact below 2^53."""
    return np.bincount(places, weights, size).astype(np.int64)


def _either(a: Mask, b: Mask) -> Mask:
    return b if a is None else a if b is None else a | b


def _count_ints(ids: np.ndarray, weights: np.ndarray | None) -> Counted:
    if len(ids):
        low, high = int(ids.min()), int(ids.max())
        if high - low <= 4 * len(ids):  # counting beats sorting
            times = _bincount(np.subtract(ids, low, dtype=np.int64), weights, 0)
            used = np.flatnonzero(times)
            return used + low, times[used]
    if weights is None:
        distinct, times = np.unique(ids, return_counts=True)
    else:
        distinct, place = np.unique(ids, return_inverse=True)
        times = _bincount(place, weights, len(distinct))
    seen = times > 0
    return distinct[seen].astype(np.int64), times[seen]


class Counts:
    """Running counts of one table: over all row groups and over all features that share the table."""

    def __init__(self) -> None:
        self._ids, self._times = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._strings: dict[str, int] = {}
        self._of_strings = False

    def add(self, counted: Counted) -> None:
        """Add the counts of one part."""
        ids, times = counted
        if isinstance(ids, list):
            self._of_strings = True
            for text, count in zip(ids, times.tolist(), strict=True):
                self._strings[text] = self._strings.get(text, 0) + count
            return
        self._waiting.append((ids, times))
        if sum(len(part) for part, _ in self._waiting) > max(MERGE, len(self._ids)):
            self._merge()

    def merge(self, other: Counts) -> None:
        """Add all that another one has counted."""
        other._merge()
        if len(other._ids):
            self.add((other._ids, other._times))
        if other._of_strings:
            self.add((list(other._strings), np.array(list(other._strings.values()), np.int64)))

    def _merge(self) -> None:
        ids = np.concatenate([self._ids, *(part for part, _ in self._waiting)])
        times = np.concatenate([self._times, *(part for _, part in self._waiting)])
        self._waiting.clear()
        order = np.argsort(ids, kind="stable")
        ids, times = ids[order], times[order]
        first = np.flatnonzero(np.diff(ids, prepend=ids[:1] - 1)) if len(ids) else np.zeros(0, np.int64)
        self._ids = ids[first]
        self._times = np.add.reduceat(times, first) if len(ids) else times

    def vocabulary(self, min_count: int, limit: int | None) -> tuple[pa.Array, np.ndarray]:
        """Ids seen at least `min_count` times, the `limit` most frequent ones; by falling count, equal counts by rising id."""
        if self._of_strings:
            kept = sorted((-count, text) for text, count in self._strings.items() if count >= min_count)[:limit]
            return pa.array([text for _, text in kept], pa.large_string()), np.array(
                [-count for count, _ in kept], np.int64
            )
        self._merge()
        enough = self._times >= min_count
        ids, times = self._ids[enough], self._times[enough]
        order = np.lexsort((ids, -times))[:limit]
        return pa.array(ids[order], pa.int64()), times[order]
