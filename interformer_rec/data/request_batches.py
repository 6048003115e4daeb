"""Candidates of requests -> Batch. In: pieces (Columns with `requests`, candidates); out: a Batch with `request_of`.

Everything has C rows, so that TorchRec sees one batch size. The candidates' columns fill all of them; those of the R requests fill the
first R (R <= C: every request has a candidate here), and behind these a key of theirs has no id and a dense column 0.
"""

from collections.abc import Sequence

import numpy as np
import torch

from interformer_rec.batch import Batch, KeyedJaggedTensor
from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.collate import Picked, Piece, count, events, laid_out, singles, stack, tensor, times
from interformer_rec.data.decode.layout import RequestLayout, Singles


def collate_requests(
    layout: RequestLayout, features: FeatureSchema, pieces: Sequence[Piece], loss_rows: float
) -> Batch:
    """One Batch of all candidates of the pieces, in order (at least one). `loss_rows`: see Batch."""
    shown = laid_out(pieces)
    once, request_of = _requests(shown)
    sides_ = (once, shown)
    size = shown[-1].at.stop
    return Batch(
        dense=_dense(layout, sides_, size),
        sparse=_keyed(layout, layout.sparse_keys, sides_, size),
        sequences=_keyed(layout, layout.sequence_keys, sides_, size),
        timestamps={
            group.name: stack([times(p, i) for p in once])
            for i, group in enumerate(features.sequences)
            if group.timestamp
        },
        labels=stack([p.columns.labels[p.rows] for p in shown]),
        weights=stack([p.columns.weights[p.rows] for p in shown]),
        groups=stack([p.columns.groups[p.rows] for p in shown]),
        rows=size,
        loss_rows=loss_rows,
        request_of=torch.from_numpy(request_of),
        requests=once[-1].at.stop,
        request_numbers=stack([_numbers(p) for p in shown]),
    )


def _numbers(picked: Picked) -> np.ndarray:
    """(rows,) int64 of each candidate's request."""
    requests = picked.columns.requests
    assert requests is not None
    return requests.numbers[requests.of[picked.rows]]


def _requests(shown: Sequence[Picked]) -> tuple[list[Picked], np.ndarray]:
    """The requests of the chosen candidates, and (C,) int64 which one each has. Candidates of a request lie side by side."""
    pieces: list[Piece] = []
    request_of, before = [], 0
    for p in shown:
        assert p.columns.requests is not None
        of = p.columns.requests.of[p.rows]
        first = np.diff(of, prepend=-1) != 0
        pieces.append((p.columns.requests.columns, of[first]))
        request_of.append(np.cumsum(first) - 1 + before)
        before += int(first.sum())
    return laid_out(pieces), np.concatenate(request_of)


def _dense(layout: RequestLayout, sides_: tuple[list[Picked], list[Picked]], size: int) -> torch.Tensor:
    out = np.zeros((size, sum(map(len, layout.dense))), np.float32)
    for picked, columns in zip(sides_, layout.dense, strict=True):
        for p in picked:
            out[p.at, columns] = p.columns.dense[p.rows]
    return torch.from_numpy(out)


def _keyed(
    layout: RequestLayout, keys: list[str], sides_: tuple[list[Picked], list[Picked]], size: int
) -> KeyedJaggedTensor:
    places = [layout.place(key) for key in keys]
    rows = [side[-1].at.stop for side in sides_]
    totals = [count(item, sides_[shown], rows[shown]) for shown, item in places]
    lengths, values = np.zeros((len(keys), size), np.int32), np.empty(sum(totals), np.int64)
    end = 0
    for key, ((shown, item), total) in enumerate(zip(places, totals, strict=True)):
        out = values[end : end + total]
        end += total
        if isinstance(item, Singles):
            singles(item, sides_[shown], out.reshape(1, total))
            lengths[key, :total] = 1
        else:
            events(item, sides_[shown], lengths[key], out)
    return tensor(keys, values, lengths.reshape(-1), size)
