"""Which rows of the local shards training has looked up, hence changed, or were reset. In: the sharded model; out: row numbers a shard.

Every optimizer that is fused into FBGEMM's backward kernels changes the rows of the batch and no others. A hook on the lookup
kernels sees the ids after they were exchanged between ranks, counted inside the shard: one index_fill a step and kernel, on the device.
"""

from typing import Any

import numpy as np
import torch
from torch import nn
from torchrec.distributed.batched_embedding_kernel import BatchedFusedEmbedding, BatchedFusedEmbeddingBag
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from interformer_rec.distributed.lookup.tables import lookup_kernels


class TouchedRows:
    """Marks rows from now on; 1 byte a row. Data-parallel tables are not followed: other ranks change them too."""

    def __init__(self, model: nn.Module) -> None:
        self._marks: dict[tuple[str, int, int], torch.Tensor] = {}  # (table, row, column) of a shard -> (rows,) bool
        for kernel in lookup_kernels(model):
            if isinstance(kernel, (BatchedFusedEmbedding, BatchedFusedEmbeddingBag)):
                self._follow(kernel)

    def _follow(self, kernel: BatchedFusedEmbedding | BatchedFusedEmbeddingBag) -> None:
        tables = kernel.config.embedding_tables
        device = next(iter(kernel.split_embedding_weights())).device
        marks = torch.zeros(sum(table.local_rows for table in tables), dtype=torch.bool, device=device)
        starts, first = [], 0
        for table in tables:
            row, column = table.local_metadata.shard_offsets if table.local_metadata else (0, 0)
            self._marks[table.name, row, column] = marks[first : first + table.local_rows]
            starts += [first] * table.num_features()
            first += table.local_rows
        start_F = torch.tensor(starts, device=device)

        def mark(module: nn.Module, args: tuple[Any, ...]) -> None:
            if not module.training:
                return
            features: KeyedJaggedTensor = args[0]
            ids = features.values().long()
            counts_F = features.lengths().view(len(starts), -1).sum(dim=1)
            marks.index_fill_(0, ids + torch.repeat_interleave(start_F, counts_F, output_size=len(ids)), True)

        kernel.register_forward_pre_hook(mark)

    def rows(self, table: str, row: int, column: int) -> torch.Tensor | None:
        """(n,) int64, ascending, on the shard's device: rows counted inside the shard. None if it is not followed."""
        marks = self._marks.get((table, row, column))
        return marks.nonzero()[:, 0] if marks is not None else None

    def mark(self, table: str, rows: np.ndarray) -> None:
        """Rows of the whole table, ascending, were changed otherwise than by training."""
        for (name, first, _), marks in self._marks.items():
            if name == table:
                low, high = np.searchsorted(rows, [first, first + len(marks)])
                marks[torch.from_numpy(rows[low:high] - first).to(marks.device)] = True

    def clear(self) -> None:
        """Begin anew."""
        for marks in self._marks.values():
            marks.zero_()
