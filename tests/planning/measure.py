"""The whole task on this CPU, with its tables: bytes that autograd keeps and FLOPs, of a batch with known lengths."""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from interformer_rec.batch import Batch
from interformer_rec.config.run import RunConfig
from interformer_rec.model.task import CTRTask, build_task
from interformer_rec.planning.cost.sizes import Sizes


def keyed(lookups, sizes: Sizes, batch: int) -> KeyedJaggedTensor:
    lengths, values = [], []
    for lookup in lookups:
        widths = torch.tensor(sizes.of_lookup(lookup.key).widths(batch).round(), dtype=torch.int32)
        lengths.append(widths)
        values.append(torch.randint(0, sizes.rows[lookup.table], (int(widths.sum()),)))
    if not lookups:
        return KeyedJaggedTensor(
            [], torch.empty(0, dtype=torch.int64), lengths=torch.empty(0, dtype=torch.int32), stride=batch
        )
    return KeyedJaggedTensor([look.key for look in lookups], torch.cat(values), lengths=torch.cat(lengths))


def batch_of(config: RunConfig, sizes: Sizes, batch: int) -> Batch:
    features = config.features
    return Batch(
        dense=torch.randn(batch, len(features.dense)),
        sparse=keyed(features.pooled_lookups, sizes, batch),
        sequences=keyed(features.jagged_lookups, sizes, batch),
        timestamps={},
        labels=torch.zeros(batch, len(features.labels)),
        weights=torch.ones(batch),
        groups=torch.zeros(batch, dtype=torch.int64),
        rows=batch,
        loss_rows=float(batch),
    )


def saved_bytes(config: RunConfig, sizes: Sizes, batch: int) -> int:
    """Kept for the backward pass by the dense part; what the lookups keep is not in it, nor the parameters."""
    torch.manual_seed(0)
    l2 = config.optimizer.embedding.l2
    task = build_task(config.features, config.model, sizes.rows, l2=l2, device=torch.device("cpu")).train()
    data = batch_of(config, sizes, batch)
    embeddings = task.embeddings
    with torch.no_grad():
        pooled = embeddings.ebc(data.sparse) if embeddings.ebc is not None else None
        jagged = embeddings.ec(data.sequences) if embeddings.ec is not None else None
    if pooled is not None:
        pooled._values.requires_grad_()
    for part in (jagged or {}).values():
        part._values.requires_grad_()
    weights = {p.untyped_storage().data_ptr() for p in task.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    cast = torch.autocast("cpu", torch.bfloat16, enabled=config.training.precision == "bf16")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t), cast:
        embedded = embeddings.assemble(data.sequences, pooled, jagged, data.loss_rows)
        logits = task.model(data.dense, embedded)
        loss = task.loss(logits, data.labels, data.weights, data.loss_rows, data.groups)
    del loss
    return sum(kept.values())


def torchs_flops(task: CTRTask, data: Batch) -> int:
    """Of a forward pass of the dense part, by torch's counter. It does not know the CPU's flash attention, and stumbles over a
    parameter that is a module's input (flow: s2n, sep)."""
    task.requires_grad_(False)
    embedded = task.embeddings(data)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        task.model(data.dense, embedded)
    return counter.get_total_flops()
