"""One bag an event: a CPU updates unpooled tables at the speed of pooled ones. In: a sharded model; out: it calls other kernels.

FBGEMM 1.8.0's CPU update of unpooled lookups takes 2 to 4 microseconds for each distinct row, tens of times as long as that of pooled
ones (docs/decisions/0012). A vector is the sum of a bag of one id, so an EmbeddingCollection's tables are read here as bags of one, all
tables of a kernel as one table below the other, as they lie in memory. The same arithmetic on the same memory: weights, optimizer
state, checkpoints and learning rates are those of TorchRec's module, which stays where it is.
"""

import itertools
import math
from collections.abc import Callable

import torch
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation, PoolingMode
from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
    ComputeDevice,
    SplitTableBatchedEmbeddingBagsCodegen,
)
from torch import Tensor, nn
from torchrec.distributed.batched_embedding_kernel import BatchedFusedEmbedding
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from interformer_rec.distributed.lookup.tables import lookup_kernels

# Optimizers with one state at most, and what the state has for a row: a number, or one for each float.
STATE = {EmbOptimType.EXACT_SGD: None, EmbOptimType.EXACT_ADAGRAD: "floats", EmbOptimType.EXACT_ROWWISE_ADAGRAD: "rows"}


def read_events_as_bags(model: nn.Module) -> None:
    """Replace the forward of every unpooled CPU kernel whose tables are equally wide; leave the others as they are."""
    for kernel in lookup_kernels(model):
        if isinstance(kernel, BatchedFusedEmbedding) and _fits(kernel.emb_module):
            kernel.forward = _forward(kernel.emb_module, kernel.forward)  # type: ignore[method-assign]


def _fits(tables: SplitTableBatchedEmbeddingBagsCodegen) -> bool:
    """On the host, one width, a known optimizer, end to end in memory, and some rows: row-wise, a small table ends before the last rank."""
    specs = tables.embedding_specs
    if _firsts(tables)[-1] == 0:
        return False
    if tables.optimizer not in STATE or len({dim for _, dim, _, _ in specs}) != 1:
        return False
    if any(place != EmbeddingLocation.HOST or device != ComputeDevice.CPU for _, _, place, device in specs):
        return False
    dim, firsts = specs[0][1], _firsts(tables)
    if tables.weights_offsets.tolist() != [
        tables.weights_offsets[0] + dim * firsts[i] for i in tables.feature_table_map
    ]:
        return False
    state = STATE[tables.optimizer]
    width = {None: 0, "rows": 1, "floats": dim}[state]
    return state is None or tables.momentum1_offsets.tolist() == [width * firsts[i] for i in tables.feature_table_map]


def _firsts(tables: SplitTableBatchedEmbeddingBagsCodegen) -> list[int]:
    """Rows of the tables before each one, and of all."""
    return list(itertools.accumulate((rows for rows, *_ in tables.embedding_specs), initial=0))


def _forward(
    tables: SplitTableBatchedEmbeddingBagsCodegen, otherwise: Callable[[KeyedJaggedTensor], Tensor]
) -> Callable[[KeyedJaggedTensor], Tensor]:
    """(J, dim) vectors of the ids. `otherwise` serves a batch without ids, of which FBGEMM makes no bags."""
    one, firsts = _one_table(tables), _firsts(tables)
    first_F = torch.tensor([firsts[table] for table in tables.feature_table_map])

    def forward(features: KeyedJaggedTensor) -> Tensor:
        rows_J = features.values().long()
        if not len(rows_J):
            return otherwise(features)
        if firsts[-2]:  # more than one table
            counts_F = features.lengths().view(len(first_F), -1).sum(dim=1)
            rows_J = rows_J + torch.repeat_interleave(first_F, counts_F, output_size=len(rows_J))
        one.weights_host, one.learning_rate_tensor = tables.weights_host, tables.learning_rate_tensor
        one.optimizer_args = tables.optimizer_args
        if STATE[tables.optimizer] is not None:
            one.momentum1_host = tables.momentum1_host
        return one(indices=rows_J, offsets=torch.arange(len(rows_J) + 1))

    return forward


def _one_table(tables: SplitTableBatchedEmbeddingBagsCodegen) -> SplitTableBatchedEmbeddingBagsCodegen:
    """A module of one pooled table as long as all together; its memory is put in later."""
    rows, dim = _firsts(tables)[-1], tables.embedding_specs[0][1]
    one = SplitTableBatchedEmbeddingBagsCodegen(
        embedding_specs=[(1, dim, EmbeddingLocation.HOST, ComputeDevice.CPU)],
        pooling_mode=PoolingMode.SUM,
        optimizer=tables.optimizer,
        weights_precision=tables.weights_precision,
        device=torch.device("cpu"),
    )
    one.rows_per_table.fill_(rows)
    one.hash_size_cumsum[-1] = rows
    one.total_hash_size_bits = int(math.log2(rows) + 1)
    return one
