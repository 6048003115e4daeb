"""Id dropout: in training some ids read the unknown row, so that it is trained on what it stands for, ids that are seen for the first time.

In: a shuffle buffer's Columns; out: the same rows, some ids of `vocab` tables replaced. An id that the training data has n times is
replaced with probability strength / (strength + n) each time (Kiperwasser & Goldberg 2016, "Simple and Accurate Dependency Parsing Using
Bidirectional LSTM Feature Representations", TACL 4, section 5): at most about `strength` times in all, so mostly those that are rare. The
unknown row so learns how rare ids behave, not how all do.
"""

from dataclasses import replace

import numpy as np
import torch

from interformer_rec.config.features import UNKNOWN_ROW, FeatureSchema, SequenceGroup
from interformer_rec.config.request import sides
from interformer_rec.data.decode.columns import Columns
from interformer_rec.data.decode.layout import Layout
from interformer_rec.data.fit import Fitted

WHOLE = 1 << 16  # probabilities are multiples of 1 / WHOLE
BLOCK = 1 << 14  # rows that are worked on at a time: they stay in the cache
MOST = WHOLE - 1  # an id that was seen more often counts as one that was seen so often


class IdDropout:
    """Made once for a vocabulary with its counts; used by several threads."""

    def __init__(self, features: FeatureSchema, fitted: Fitted, strength: float, growing_only: bool = False) -> None:
        """`strength` > 0. `growing_only`: for a run over windows, where ids of later windows train the unknown rows of other tables."""
        layout, limits = Layout(features), {}
        for name, table in features.tables.items():
            if table.ids == "vocab" and (table.grow is not None or not growing_only):
                counts = np.maximum(bounded(fitted.counts[name]), 1).astype(np.float64)
                share = np.minimum(np.rint(WHOLE * strength / (strength + counts)), WHOLE - 1)
                limits[name] = np.concatenate([np.zeros(table.special_rows), share]).astype(np.uint16)
        self._singles = [limits.get(one.table) for one in layout.singles]
        self._jagged = [
            [limits.get(column.table) for column in (one.columns if isinstance(one, SequenceGroup) else [one])]
            for one in layout.jagged
        ]

    def __call__(self, columns: Columns, random: np.random.Generator) -> Columns:
        """`random`: of the buffer and epoch; what is drawn for a row depends on the rows of the buffer alone."""
        jagged = [
            replace(one, events=_replaced(one.events, limits, random))
            for one, limits in zip(columns.jagged, self._jagged, strict=True)
        ]
        return replace(columns, singles=_replaced(columns.singles, self._singles, random), jagged=jagged)


class RequestIdDropout:
    """IdDropout's counterpart where rows are candidates of requests: what is drawn for a request holds for all its candidates."""

    def __init__(self, features: FeatureSchema, fitted: Fitted, strength: float, growing_only: bool = False) -> None:
        self._once, self._shown = (IdDropout(side, fitted, strength, growing_only) for side in sides(features))

    def __call__(self, columns: Columns, random: np.random.Generator) -> Columns:
        """As IdDropout's."""
        assert columns.requests is not None
        requests = replace(columns.requests, columns=self._once(columns.requests.columns, random))
        return replace(self._shown(columns, random), requests=requests)


def bounded(counts: np.ndarray) -> np.ndarray:
    """What IdDropout reads of counts, in few bytes."""
    return np.minimum(counts, MOST).astype(np.uint16)


def _replaced(rows: np.ndarray, limits: list[np.ndarray | None], random: np.random.Generator) -> np.ndarray:
    """(n, columns) table rows with some of them UNKNOWN_ROW; `limits`: of each column's table, by row, None where it has no such row."""
    if all(limit is None for limit in limits):
        return rows
    out = np.empty_like(rows)
    for start in range(0, len(rows), BLOCK):
        part = out[start : start + BLOCK]
        part[:] = rows[start : start + BLOCK]
        for column, limit in enumerate(limits):
            if limit is not None:
                replaced = np.flatnonzero(_drawn(len(part), random) < _taken(limit, part[:, column]))
                part[replaced, column] = UNKNOWN_ROW
    return out


def _drawn(count: int, random: np.random.Generator) -> np.ndarray:
    """Uniform uint16, four of each number that the generator makes: half the time of random.integers."""
    return random.bit_generator.random_raw(-(-count // 4)).view(np.uint16)[:count]


def _taken(limit: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """limit[rows], uint16. torch reads int32 indices as they are, where numpy makes int64 of them: half the time."""
    index = torch.from_numpy(np.ascontiguousarray(rows, np.int32 if len(limit) < 2**31 else np.int64))
    return torch.from_numpy(limit.view(np.int16)).index_select(0, index).numpy().view(np.uint16)
