"""Batch: the only thing that crosses from the data path to the device. In: what data/collate made; out: what model/ reads.

Jagged layout, drawn once. Two rows, one group `watch` of columns video and tag, at most 3 events, histories [7 8] and [9]:

    sequences.keys()     watch.video      watch.tag
    sequences.lengths()  2 1              2 1            (key-major: all rows of a key, then the next key)
    sequences.values()   7 8 | 9          1 1 | 4        (rows of the tables, not raw ids; oldest event first)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from interformer_rec.install import fbgemm

fbgemm.require()  # names what is missing and the cure before TorchRec's own import fails without a word

from torchrec.sparse.jagged_tensor import KeyedJaggedTensor  # noqa: E402
from torchrec.streamable import Pipelineable  # noqa: E402


@dataclass
class Batch(Pipelineable):
    """B rows of features, labels and weights on one rank.

    Invariants: every part has B rows in the same order; `sparse` has the keys of FeatureSchema.pooled_lookups and
    `sequences` those of jagged_lookups, in order (no keys: stride B, no values); values are table rows (int64).
    A rank that has run out of rows still takes part in the collectives: it sends a *filler*, B = 1 with all lengths 0,
    weight 0 and `rows` 0, which touches no table, adds nothing to the loss and is left out of metrics.
    """

    dense: torch.Tensor  # (B, m) float32
    sparse: KeyedJaggedTensor
    sequences: KeyedJaggedTensor
    timestamps: dict[str, torch.Tensor]  # group -> (events of the group,) int64, in the order of its values; {} without
    labels: torch.Tensor  # (B, tasks) float32; (B, 0) for prediction
    weights: torch.Tensor  # (B,) float32
    groups: torch.Tensor  # (B,) int64 key for GAUC (a hash for strings; NULL_GROUP: null); zeros without a group column
    rows: int  # real rows: B, or 0 for a filler
    # Rows of the step over all ranks / world size: what the weighted loss sum is divided by. Where bad rows are skipped a rank knows its
    # own number alone (1 for a filler), and the pipeline puts the number of all ranks in its place.
    loss_rows: float
    # why rows were left out of it -> how many, an example
    skipped: dict[str, tuple[int, str]] = field(default_factory=dict)
    # Where rows are candidates (features.request): (B,) int64, the request of each, rising from 0. Keys and dense columns that are the
    # request's fill its first rows, one a request; behind these they have no ids and zeros.
    request_of: torch.Tensor | None = None
    requests: int = 0  # how many
    # (B,) int64: the same number for the candidates of a request in all batches and ranks
    request_numbers: torch.Tensor | None = None

    @property
    def batch_size(self) -> int:
        """B, a filler's one row included."""
        return self.labels.shape[0]

    def to(self, device: torch.device, non_blocking: bool = False) -> Batch:
        """A copy on `device` (itself where it is there already)."""
        return self._map(lambda part: part.to(device=device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """A copy in page-locked host memory, for asynchronous copies to a GPU."""
        return self._map(lambda part: part.pin_memory())

    def record_stream(self, stream: torch.Stream) -> None:
        """Keep the memory alive until `stream` has used it."""
        self._map(lambda part: part.record_stream(stream))

    def _map(self, function: Callable[[Any], Any]) -> Batch:
        parts: dict[str, Any] = {}
        for name in (one.name for one in fields(self)):
            part = getattr(self, name)
            if isinstance(part, (torch.Tensor, KeyedJaggedTensor)):
                part = function(part)
            elif name == "timestamps":
                part = {key: function(value) for key, value in part.items()}
            parts[name] = part
        return Batch(**parts)
