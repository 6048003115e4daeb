"""Rows of decoded columns -> Batch. In: pieces (Columns, rows); out: a Batch; its KeyedJaggedTensors are written in place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from interformer_rec.batch import Batch, KeyedJaggedTensor
from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.decode.columns import Columns
from interformer_rec.data.decode.jagged import Rows, pick
from interformer_rec.data.decode.layout import Events, Layout, Singles

Piece = tuple[Columns, Rows]


class _Picked:
    """The chosen rows of one piece and their place in the batch."""

    def __init__(self, columns: Columns, rows: Rows, at: int) -> None:
        self.columns, self.rows = columns, rows
        count = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
        self.at = slice(at, at + count)
        self.singles = pick(columns.singles, rows)
        self.lengths = [pick(jagged.lengths, rows) for jagged in columns.jagged]
        self.events = [jagged.pick(jagged.events, rows) for jagged in columns.jagged]


def collate(layout: Layout, features: FeatureSchema, pieces: Sequence[Piece], loss_rows: float) -> Batch:
    """One Batch of all rows of the pieces, in order (at least one row). `loss_rows`: see Batch."""
    picked: list[_Picked] = []
    for columns, rows in pieces:
        picked.append(_Picked(columns, rows, picked[-1].at.stop if picked else 0))
    size = picked[-1].at.stop
    return Batch(
        dense=_stack([pick(p.columns.dense, p.rows) for p in picked]),
        sparse=_keyed(layout.sparse_keys, layout.sparse, picked, size),
        sequences=_keyed(layout.sequence_keys, layout.sequences, picked, size),
        timestamps={
            group.name: _stack([_times(p, i) for p in picked])
            for i, group in enumerate(features.sequences)
            if group.timestamp
        },
        labels=_stack([pick(p.columns.labels, p.rows) for p in picked]),
        weights=_stack([pick(p.columns.weights, p.rows) for p in picked]),
        groups=_stack([pick(p.columns.groups, p.rows) for p in picked]),
        rows=size,
        loss_rows=loss_rows,
    )


def empty_batch(layout: Layout, features: FeatureSchema, tasks: int, loss_rows: float) -> Batch:
    """A filler (see Batch): one row without ids, with weight 0."""
    nothing = np.zeros(0, np.int64)
    return Batch(
        dense=torch.zeros(1, len(features.dense)),
        sparse=_tensor(layout.sparse_keys, nothing, np.zeros(len(layout.sparse_keys), np.int32), 1),
        sequences=_tensor(layout.sequence_keys, nothing, np.zeros(len(layout.sequence_keys), np.int32), 1),
        timestamps={group.name: torch.zeros(0, dtype=torch.int64) for group in features.sequences if group.timestamp},
        labels=torch.zeros(1, tasks),
        weights=torch.zeros(1),
        groups=torch.zeros(1, dtype=torch.int64),
        rows=0,
        loss_rows=loss_rows,
    )


def _keyed(keys: list[str], order: list[Singles | Events], picked: list[_Picked], size: int) -> KeyedJaggedTensor:
    """The KeyedJaggedTensor (stride `size`): int32 lengths and int64 values, key by key, inside a key piece by piece."""
    lengths = np.ones((len(keys), size), np.int32)
    totals = [_count(item, picked, size) for item in order]
    values = np.empty(sum(totals), np.int64)
    key, end = 0, 0
    for item, total in zip(order, totals, strict=True):
        out = values[end : end + total]
        end += total
        if isinstance(item, Singles):
            _singles(item, picked, out.reshape(item.stop - item.start, size))
            key += item.stop - item.start
        else:
            _events(item, picked, lengths[key], out)
            key += 1
    return _tensor(keys, values, lengths.reshape(-1), size)


def _count(item: Singles | Events, picked: list[_Picked], size: int) -> int:
    if isinstance(item, Singles):
        return (item.stop - item.start) * size
    return sum(len(p.events[item.group]) for p in picked)


def _singles(item: Singles, picked: list[_Picked], out: np.ndarray) -> None:
    for p in picked:
        out[:, p.at] = p.singles[:, item.start : item.stop].T


def _events(item: Events, picked: list[_Picked], lengths: np.ndarray, out: np.ndarray) -> None:
    """Write a list key's lengths and table rows."""
    end = 0
    for p in picked:
        lengths[p.at] = p.lengths[item.group]
        values = p.events[item.group][:, item.column]
        out[end : end + len(values)] = values
        end += len(values)


def _times(picked: _Picked, group: int) -> np.ndarray:
    jagged = picked.columns.jagged[group]
    assert jagged.timestamps is not None
    return jagged.pick(jagged.timestamps, picked.rows)


def _stack(parts: list[np.ndarray]) -> torch.Tensor:
    """Pieces one below the other, in memory of their own."""
    return torch.from_numpy(np.concatenate(parts) if len(parts) > 1 else np.array(parts[0]))


def _tensor(keys: list[str], values: np.ndarray, lengths: np.ndarray, size: int) -> KeyedJaggedTensor:
    return KeyedJaggedTensor(keys=keys, values=torch.from_numpy(values), lengths=torch.from_numpy(lengths), stride=size)
