"""A model with pooled and sequence tables and one dense layer, small enough to see through; helpers to look at its state."""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig, EmbeddingConfig
from torchrec.modules.embedding_modules import EmbeddingBagCollection, EmbeddingCollection
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from interformer_rec.config.optimizer import DenseOptimizer, EmbeddingOptimizer, OptimizerConfig, Schedule
from interformer_rec.config.run import ShardingConfig
from interformer_rec.distributed.environment import Environment
from interformer_rec.distributed.lookup.tables import FirstWeights
from interformer_rec.distributed.optimizer import LearningRate
from interformer_rec.distributed.parallelize import Parallel, parallelize
from interformer_rec.distributed.state import local_state
from interformer_rec.planning.torchrec_plan import torchrec_plan

DIM = 64  # two column shards of 32, the least that TorchRec makes
ROWS = {"bag_a": 11, "bag_b": 23, "seq_a": 17, "seq_b": 9}
META = torch.device("meta")


class Tiny(nn.Module):
    """logit = Linear(sum of everything looked up)."""

    def __init__(self) -> None:
        super().__init__()
        self.ebc = EmbeddingBagCollection(
            tables=[
                EmbeddingBagConfig(name=n, embedding_dim=DIM, num_embeddings=ROWS[n], feature_names=[n])
                for n in ("bag_a", "bag_b")
            ],
            device=META,
        )
        self.ec = EmbeddingCollection(
            tables=[
                EmbeddingConfig(name=n, embedding_dim=DIM, num_embeddings=ROWS[n], feature_names=[n])
                for n in ("seq_a", "seq_b")
            ],
            device=META,
        )
        self.out = nn.Linear(DIM, 1)

    def forward(self, sparse: KeyedJaggedTensor, sequences: KeyedJaggedTensor) -> torch.Tensor:
        """(B, 1) logits."""
        x = self.ebc(sparse).values().view(-1, 2, DIM).sum(1)
        for part in self.ec(sequences).values():
            rows = torch.repeat_interleave(torch.arange(x.shape[0]), part.lengths())
            x = x.index_add(0, rows, torch.tanh(part.values()))
        return self.out(x)


def build(
    env: Environment, default: str = "auto", kind: str = "rowwise_adagrad", ema: float | None = None, **wishes: str
) -> Parallel:
    """Tiny, parallel."""
    return built(env, ShardingConfig(default=default, tables=wishes), EmbeddingOptimizer(kind=kind, lr=0.1), ema)


def built(
    env: Environment, sharding: ShardingConfig, embedding: EmbeddingOptimizer, ema: float | None = None
) -> Parallel:
    """Tiny, parallel, with any options of `sharding:`."""
    torch.manual_seed(5)
    model = Tiny()
    return parallelize(
        model,
        env,
        plan=torchrec_plan(model, env, batch_size=8, sharding=sharding),
        sharding=sharding,
        optimizer=OptimizerConfig(dense=DenseOptimizer(ema=ema), embedding=embedding),
        rate=LearningRate(Schedule(), lambda: 100, True),
        first_weights=FirstWeights(5, dict.fromkeys(ROWS, 0.5)),
    )


def inputs(step: int, rows: slice) -> tuple[KeyedJaggedTensor, KeyedJaggedTensor, torch.Tensor]:
    """Rows of the step's global batch of 8: ids, histories of 0 to 3 events, labels."""
    random = np.random.default_rng(step)
    count = 8
    ids = [random.integers(0, ROWS[n], count) for n in ("bag_a", "bag_b")]
    sparse = torch.tensor(np.concatenate([part[rows] for part in ids]))
    lengths, values = [], []
    for name in ("seq_a", "seq_b"):
        events = [random.integers(0, ROWS[name], random.integers(0, 4)) for _ in range(count)]
        lengths += [len(e) for e in events[rows]]
        values += [v for e in events[rows] for v in e]
    labels = torch.tensor(random.integers(0, 2, count)[rows], dtype=torch.float32)
    ones = torch.ones(len(sparse), dtype=torch.int32)
    return (
        KeyedJaggedTensor(["bag_a", "bag_b"], sparse, lengths=ones),
        KeyedJaggedTensor(
            ["seq_a", "seq_b"],
            torch.tensor(values, dtype=torch.int64),
            lengths=torch.tensor(lengths, dtype=torch.int32),
        ),
        labels,
    )


def train(env: Environment, parallel: Parallel, first: int, last: int) -> list[float]:
    """Steps first..last-1 on global batches of 8, divided over the ranks; the global losses."""
    share = 8 // env.world_size
    losses = []
    for step in range(first, last):
        sparse, sequences, labels = inputs(step, slice(env.rank * share, (env.rank + 1) * share))
        parallel.optimizer.zero_grad()
        logits = parallel.model(sparse, sequences)[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, labels)
        loss.backward()
        parallel.optimizer.step()
        total = loss.detach().clone()
        dist.all_reduce(total)
        losses.append(float(total) / env.world_size)
    return losses


def whole_state(env: Environment, parallel: Parallel) -> dict[str, np.ndarray]:
    """Every table and every accumulator in one piece, and the dense weights; the same on all ranks."""
    mine = [
        (shard.table, shard.shape, shard.row, shard.column, name, tensor.detach().numpy().copy(), shard.tensor.shape)
        for shard, parts in local_state(parallel)
        for name, tensor in parts.items()
    ]
    everyone: list = [None] * env.world_size
    dist.all_gather_object(everyone, mine)
    whole: dict[str, np.ndarray] = {}
    for table, shape, row, column, name, array, (rows, columns) in (item for part in everyone for item in part):
        if array.ndim == 1:  # row-wise: keep one column a column shard
            whole.setdefault(f"{table}/{name}/{column}", np.full(shape[0], np.nan))[row : row + rows] = array
        else:
            whole.setdefault(f"{table}/{name}", np.full(shape, np.nan))[row : row + rows, column : column + columns] = (
                array
            )
    for name, parameter in parallel.model.named_parameters():
        if name.startswith("out"):
            whole[name] = parameter.detach().numpy().copy()
    return whole
