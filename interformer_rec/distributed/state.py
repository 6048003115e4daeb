"""All state of a run on this rank, as views of the live memory. In: a Parallel; out: tables, accumulators, dense parameters.

Fused and data-parallel tables keep their optimizer state in different places and under different names; here they are alike.
"""

from collections.abc import Iterator

import torch
from torch.distributed._shard.sharded_tensor import ShardedTensor

from interformer_rec.distributed.lookup.tables import Shard, local_shards
from interformer_rec.distributed.parallelize import Parallel

# State of the torch.optim twin -> its name in TorchRec's fused optimizer, which calls the first one momentum1 always and the
# second one by FBGEMM's name. Adam's step counter is the run's own (RunOptimizer.set_step).
REPLICATED_STATE = {"sum": "momentum1", "exp_avg": "momentum1", "exp_avg_sq": "exp_avg_sq"}


def local_state(parallel: Parallel) -> Iterator[tuple[Shard, dict[str, torch.Tensor]]]:
    """Every shard of this rank with its weight and optimizer state, as views of the live memory."""
    fused = _fused_state(parallel)
    seen: dict[str, int] = {}
    replicated = _replicated_state(parallel)
    for shard in local_shards(parallel.model):
        number = seen.get(shard.table, 0)
        seen[shard.table] = number + 1
        state = (
            replicated.get(shard.table, {}) if shard.replicated else fused.get(shard.table, [{}] * (number + 1))[number]
        )
        yield shard, {"weight": shard.tensor, **state}


def _fused_state(parallel: Parallel) -> dict[str, list[dict[str, torch.Tensor]]]:
    """table -> one dict of optimizer tensors a local shard, in the order of the weight's local shards."""
    found: dict[str, list[dict[str, torch.Tensor]]] = {}
    for path, state in parallel.optimizer.fused.state_dict()["state"].items():
        table = path.split(".")[-2]
        for key, value in state.items():
            name = key.split(".")[-1]
            parts = [s.tensor for s in value.local_shards()] if isinstance(value, ShardedTensor) else [value]
            rows = found.setdefault(table, [{} for _ in parts])
            for row, tensor in zip(rows, parts, strict=True):
                row[name] = tensor
    return found


def _replicated_state(parallel: Parallel) -> dict[str, dict[str, torch.Tensor]]:
    """table -> optimizer tensors of the data-parallel tables."""
    optimizer = parallel.optimizer.replicated
    if optimizer is None:
        return {}
    names = {id(parameter): name for name, parameter in parallel.model.named_parameters()}
    found: dict[str, dict[str, torch.Tensor]] = {}
    for parameter in (p for group in optimizer.param_groups for p in group["params"]):
        for key, value in optimizer.state.get(parameter, {}).items():
            if key in REPLICATED_STATE:  # row-wise sums are (rows, 1) here and (rows,) in the fused form
                flat = value.view(-1) if value.ndim == 2 and value.shape[1] == 1 and parameter.shape[1] != 1 else value
                found.setdefault(names[id(parameter)].split(".")[-2], {})[REPLICATED_STATE[key]] = flat
    return found


def dense_parameters(parallel: Parallel) -> list[tuple[str, torch.nn.Parameter]]:
    """(name, parameter) of everything that is no table, in the order of the model."""
    dense = {id(parameter) for parameter in parallel.optimizer.dense_parameters}
    return [(name, parameter) for name, parameter in parallel.model.named_parameters() if id(parameter) in dense]
