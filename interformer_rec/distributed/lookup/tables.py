"""Local shards of the sharded tables, and their first weights. In: a sharded model; out: views of what this rank holds.

First weights depend on (seed, table, row) alone: whatever the plan and the world size, a row starts the same.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torchrec.distributed.batched_embedding_kernel import BatchedFusedEmbedding, BatchedFusedEmbeddingBag
from torchrec.distributed.embedding import ShardedEmbeddingCollection
from torchrec.distributed.embeddingbag import ShardedEmbeddingBagCollection

BLOCK_ROWS = 8192  # rows drawn from one generator; a shard regenerates only the blocks it overlaps


@dataclass(frozen=True)
class Shard:
    """A rectangle of a table on this rank; `tensor` is a view of the live memory."""

    table: str
    shape: tuple[int, int]  # of the whole table
    row: int
    column: int
    tensor: torch.Tensor
    replicated: bool  # data-parallel: every rank holds the whole table


def local_shards(model: nn.Module) -> Iterator[Shard]:
    """Weights of every table's part on this rank, in the order of the state dict."""
    for name, value in model.state_dict().items():
        parts = name.split(".")
        if len(parts) < 3 or parts[-3] not in ("embedding_bags", "embeddings") or parts[-1] != "weight":
            continue
        if isinstance(value, ShardedTensor):
            rows, columns = value.size()
            for shard in value.local_shards():
                row, column = shard.metadata.shard_offsets
                yield Shard(parts[-2], (rows, columns), row, column, shard.tensor, False)
        else:
            yield Shard(parts[-2], (value.shape[0], value.shape[1]), 0, 0, value, True)


def lookup_kernels(model: nn.Module) -> Iterator[nn.Module]:
    """The modules inside the sharded collections, down to FBGEMM's. TorchRec keeps them out of `model.modules()`."""
    for module in model.modules():
        if isinstance(module, (ShardedEmbeddingBagCollection, ShardedEmbeddingCollection)):
            for lookup in module._lookups:
                yield from lookup.modules()


@dataclass(frozen=True)
class FirstWeights:
    """What the rows of tables begin with: N(0, std[table]^2), which depends on the seed alone."""

    seed: int
    std: dict[str, float]


@torch.no_grad()
def initialise_tables(model: nn.Module, first_weights: FirstWeights) -> None:
    """Fill this rank's shards, drawn by table and row block."""
    for shard in local_shards(model):
        rows, columns = shard.tensor.shape
        for block in range(shard.row // BLOCK_ROWS, -(-(shard.row + rows) // BLOCK_ROWS)):
            first = max(block * BLOCK_ROWS, shard.row)
            last = min((block + 1) * BLOCK_ROWS, shard.row + rows)
            drawn = _block(first_weights.seed, shard.table, block, shard.shape)[
                first - block * BLOCK_ROWS : last - block * BLOCK_ROWS
            ]
            drawn = drawn[:, shard.column : shard.column + columns] * first_weights.std[shard.table]
            shard.tensor[first - shard.row : last - shard.row].copy_(drawn)


def _block(seed: int, table: str, block: int, shape: tuple[int, int]) -> torch.Tensor:
    digest = hashlib.blake2b(f"{seed}/{table}/{block}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
    return torch.randn(min(BLOCK_ROWS, shape[0] - block * BLOCK_ROWS), shape[1], generator=generator)


def make_room(model: nn.Module) -> None:
    """Give every kernel without rows, of a sharded model on the CPU, the weights of one.

    Row-wise, a table of 3 rows ends before the last of 4 ranks. FBGEMM 1.8.0 takes a kernel for a CPU's where its weights on the host are
    not empty, and otherwise calls the GPU's operator, which refuses the CPU's tensors. So such a kernel gets memory for one row that no
    table has: no id points there, nothing reads or writes it, and the tables' own shards stay empty.
    """
    for kernel in lookup_kernels(model):
        if isinstance(kernel, (BatchedFusedEmbedding, BatchedFusedEmbeddingBag)):
            tables = kernel.emb_module
            if tables.weights_host.numel() == 0:
                width = max(dim for _, dim, _, _ in tables.embedding_specs)
                tables.weights_host = nn.Parameter(torch.zeros(width, dtype=tables.weights_host.dtype))
