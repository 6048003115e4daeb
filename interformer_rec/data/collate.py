"""Rows of decoded columns -> Batch. In: pieces (Columns, rows); out: a Batch; its KeyedJaggedTensors are written in place."""

from collections.abc import Sequence

import numpy as np
import torch

from interformer_rec.batch import Batch, KeyedJaggedTensor
from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.decode.columns import Columns
from interformer_rec.data.decode.jagged import Rows, pick
from interformer_rec.data.decode.layout import IdLists, Layout, Singles

Piece = tuple[Columns, Rows]


class Picked:
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
    picked = laid_out(pieces)
    size = picked[-1].at.stop
    return Batch(
        dense=stack([pick(p.columns.dense, p.rows) for p in picked]),
        sparse=_keyed(layout.sparse_keys, layout.sparse, picked, size),
        sequences=_keyed(layout.sequence_keys, layout.sequences, picked, size),
        timestamps={
            group.name: stack([times(p, i) for p in picked])
            for i, group in enumerate(features.sequences)
            if group.timestamp
        },
        labels=stack([pick(p.columns.labels, p.rows) for p in picked]),
        weights=stack([pick(p.columns.weights, p.rows) for p in picked]),
        groups=stack([pick(p.columns.groups, p.rows) for p in picked]),
        rows=size,
        loss_rows=loss_rows,
    )


def laid_out(pieces: Sequence[Piece]) -> list[Picked]:
    """The chosen rows of every piece, one piece below the other."""
    picked: list[Picked] = []
    for columns, rows in pieces:
        picked.append(Picked(columns, rows, picked[-1].at.stop if picked else 0))
    return picked


def empty_batch(features: FeatureSchema, tasks: int, loss_rows: float) -> Batch:
    """A filler (see Batch): one row without ids, with weight 0."""
    nothing = np.zeros(0, np.int64)
    sparse, sequences = ([one.key for one in kind] for kind in (features.pooled_lookups, features.jagged_lookups))
    return Batch(
        dense=torch.zeros(1, len(features.dense)),
        sparse=tensor(sparse, nothing, np.zeros(len(sparse), np.int32), 1),
        sequences=tensor(sequences, nothing, np.zeros(len(sequences), np.int32), 1),
        timestamps={group.name: torch.zeros(0, dtype=torch.int64) for group in features.sequences if group.timestamp},
        labels=torch.zeros(1, tasks),
        weights=torch.zeros(1),
        groups=torch.zeros(1, dtype=torch.int64),
        rows=0,
        loss_rows=loss_rows,
        request_of=torch.zeros(1, dtype=torch.int64) if features.request else None,
        requests=1 if features.request else 0,
        request_numbers=torch.zeros(1, dtype=torch.int64) if features.request else None,
    )


def _keyed(keys: list[str], order: list[Singles | IdLists], picked: list[Picked], size: int) -> KeyedJaggedTensor:
    """The KeyedJaggedTensor (stride `size`): int32 lengths and int64 values, key by key, inside a key piece by piece."""
    lengths = np.ones((len(keys), size), np.int32)
    totals = [count(item, picked, size) for item in order]
    values = np.empty(sum(totals), np.int64)
    key, end = 0, 0
    for item, total in zip(order, totals, strict=True):
        out = values[end : end + total]
        end += total
        if isinstance(item, Singles):
            singles(item, picked, out.reshape(item.stop - item.start, size))
            key += item.stop - item.start
        else:
            events(item, picked, lengths[key], out)
            key += 1
    return tensor(keys, values, lengths.reshape(-1), size)


def count(item: Singles | IdLists, picked: list[Picked], size: int) -> int:
    """Ids of an item."""
    if isinstance(item, Singles):
        return (item.stop - item.start) * size
    return sum(len(p.events[item.group]) for p in picked)


def singles(item: Singles, picked: list[Picked], out: np.ndarray) -> None:
    """Write the table rows of keys with one id a row: (keys, rows)."""
    for p in picked:
        out[:, p.at] = p.singles[:, item.start : item.stop].T


def events(item: IdLists, picked: list[Picked], lengths: np.ndarray, out: np.ndarray) -> None:
    """Write a list key's lengths and table rows."""
    end = 0
    for p in picked:
        lengths[p.at] = p.lengths[item.group]
        values = p.events[item.group][:, item.column]
        out[end : end + len(values)] = values
        end += len(values)


def times(picked: Picked, group: int) -> np.ndarray:
    """The times of a group's events."""
    jagged = picked.columns.jagged[group]
    assert jagged.timestamps is not None
    return jagged.pick(jagged.timestamps, picked.rows)


def stack(parts: list[np.ndarray]) -> torch.Tensor:
    """Pieces one below the other, in memory of their own."""
    return torch.from_numpy(np.concatenate(parts) if len(parts) > 1 else np.array(parts[0]))


def tensor(keys: list[str], values: np.ndarray, lengths: np.ndarray, size: int) -> KeyedJaggedTensor:
    """Without a copy."""
    return KeyedJaggedTensor(keys=keys, values=torch.from_numpy(values), lengths=torch.from_numpy(lengths), stride=size)
