"""Rows of ids that come, and rows whose ids are gone, become copies of their table's unknown row, with empty optimizer state.

An id has meant what the unknown row means until it got a row of its own, so a model that reads the copy says of the id what it said
before; training moves it on from there. In: rows of tables; out: their new state, wherever a row lies, the same on every plan and world
size.
"""

from collections.abc import Mapping

import numpy as np
import torch
import torch.distributed as dist
from torchrec.distributed.batched_embedding_kernel import BatchedFusedEmbedding, BatchedFusedEmbeddingBag

from interformer_rec.config.features import UNKNOWN_ROW
from interformer_rec.distributed.lookup.tables import Shard, lookup_kernels
from interformer_rec.distributed.parallelize import Parallel
from interformer_rec.distributed.state import local_state

Part = tuple[str, int, torch.Tensor]  # of an unknown row: its table, its first column, its numbers


@torch.no_grad()
def begin_rows(parallel: Parallel, rows: Mapping[str, np.ndarray]) -> None:
    """Give these rows of `vocab` tables the weights of the table's unknown row, and their optimizer state, whatever its kind, that of a row
    nobody trained.

    Collective: every rank calls it with the same rows, ascending, while no step is under way. Each changes what it holds.
    """
    state = [(shard, parts) for shard, parts in local_state(parallel) if shard.table in rows]
    unknown = _unknown_rows([shard for shard, _ in state])
    for shard, parts in state:
        height, width = shard.tensor.shape
        low, high = np.searchsorted(rows[shard.table], [shard.row, shard.row + height])
        at = torch.from_numpy(rows[shard.table][low:high] - shard.row).to(shard.tensor.device)
        first = unknown[shard.table][shard.column : shard.column + width].to(shard.tensor)
        for name, tensor in parts.items():
            tensor[at] = first if name == "weight" else tensor.new_zeros(())
    for kernel in lookup_kernels(parallel.model):
        if isinstance(kernel, (BatchedFusedEmbedding, BatchedFusedEmbeddingBag)):
            kernel.purge()  # what a cache on the device had of the rows; `local_state` has written it back before


def _unknown_rows(shards: list[Shard]) -> dict[str, torch.Tensor]:
    """(width,) of each table, on the CPU; `shards` are this rank's."""
    everyone: list[list[Part]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(everyone, unknown_parts(shards))
    parts: dict[str, dict[int, torch.Tensor]] = {}
    for table, column, part in (one for rank in everyone for one in rank):
        parts.setdefault(table, {})[column] = part  # of a replicated table all ranks have the same
    return {table: torch.cat([columns[at] for at in sorted(columns)]) for table, columns in parts.items()}


def unknown_parts(shards: list[Shard]) -> list[Part]:
    """What these shards hold of the unknown rows, to be sent: copies, since a view is sent with the whole table that it is of."""
    return [
        (shard.table, shard.column, shard.tensor[UNKNOWN_ROW - shard.row].clone().cpu())
        for shard in shards
        if shard.row <= UNKNOWN_ROW < shard.row + len(shard.tensor)
    ]
