"""Ranks that hold no row of any table of a kernel. In: a sharded model on the CPU; out: the same, whose lookups run there too.

Row-wise, a table of 3 rows ends before the last of 4 ranks. FBGEMM 1.8.0 takes a kernel for a CPU's where its weights on the host are
not empty, and otherwise calls the GPU's operator, which refuses the CPU's tensors. So such a kernel gets memory for one row that no
table has: no id points there, nothing reads or writes it, and the tables' own shards stay empty.
"""

import torch
from torch import nn
from torchrec.distributed.batched_embedding_kernel import BatchedFusedEmbedding, BatchedFusedEmbeddingBag

from interformer_rec.distributed.lookup.tables import lookup_kernels


def make_room(model: nn.Module) -> None:
    """Give every kernel without rows the weights of one."""
    for kernel in lookup_kernels(model):
        if isinstance(kernel, (BatchedFusedEmbedding, BatchedFusedEmbeddingBag)):
            tables = kernel.emb_module
            if tables.weights_host.numel() == 0:
                width = max(dim for _, dim, _, _ in tables.embedding_specs)
                tables.weights_host = nn.Parameter(torch.zeros(width, dtype=tables.weights_host.dtype))
