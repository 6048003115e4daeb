"""A part of a training step, alone. In: a point's config, on this rank; out: what its repeats took, as a whole step's answer has it.

data     the loader: Parquet to batches, no model
lookup   rows read for real batches, and updated by gradients of one; the exchange between ranks with several
model    forward and backward pass of the dense part and the loss, on vectors that were looked up before; each rank by itself
"""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from interformer_rec.batch import Batch
from interformer_rec.config.run import RunConfig
from interformer_rec.data.fit import Fitted
from interformer_rec.data.loader import Loader
from interformer_rec.distributed.environment import Environment
from interformer_rec.distributed.parallelize import Parallel
from interformer_rec.model.embedding.embedded import Embedded
from interformer_rec.model.task import CTRTask
from interformer_rec.training.build import build_parallel, train_loader
from interformer_rec.training.measure.memory import peak, reset_peak

WARM_UP, LEAST = 2, 3
KEPT = 4  # batches that take turns

Repeat = Callable[[], Batch]  # does the part once; of which batch


def measure_part(
    what: str, config: RunConfig, fitted: Fitted, env: Environment, steps: int, seconds: float
) -> dict[str, Any]:
    """`steps` repeats at most, fewer where they take more than `seconds`, but LEAST (collective)."""
    loader = train_loader(config, env, fitted)
    if what == "data":
        return _timed(_loading(loader), env, steps, seconds)
    parallel = build_parallel(config, env, fitted, source=loader.source)
    parallel.model.train()
    parallel.begin_epoch(0)
    batches = [batch.to(env.device) for batch, _ in itertools.islice(_forever(loader), KEPT)]
    make = _looking_up if what == "lookup" else _computing
    return _timed(make(parallel, batches, config.training.precision), env, steps, seconds)


def _forever(loader: Loader) -> Iterator[Any]:
    return itertools.chain.from_iterable(map(loader.batches, itertools.count()))


def _loading(loader: Loader) -> Repeat:
    stream = _forever(loader)
    return lambda: next(stream)[0]


def _looking_up(parallel: Parallel, batches: list[Batch], precision: str) -> Repeat:
    """Vectors are float32 whatever the dense part's precision."""
    task, turns = task_of(parallel), itertools.cycle(batches)

    def once() -> Batch:
        batch = next(turns)
        torch.stack([vectors.sum() for vectors in _vectors(task.embeddings(batch))]).sum().backward()
        parallel.optimizer.zero_grad()
        return batch

    return once


def _computing(parallel: Parallel, batches: list[Batch], precision: str) -> Repeat:
    task = task_of(parallel)
    with torch.no_grad():
        looked_up = [(batch, _alone(task.embeddings(batch))) for batch in batches]
    turns, device = itertools.cycle(looked_up), batches[0].dense.device.type

    def once() -> Batch:
        batch, embedded = next(turns)
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            loss, _ = task.dense_part(batch, embedded)
        loss.backward()
        parallel.optimizer.zero_grad()
        for vectors in _vectors(embedded):
            vectors.grad = None
        return batch

    return once


def task_of(parallel: Parallel) -> CTRTask:
    """The task inside of what sharding made of it."""
    task = parallel.model.module
    assert isinstance(task, CTRTask)
    return task


def _vectors(embedded: Embedded) -> list[Tensor]:
    return [*embedded.fields.values(), *(events.values for events in embedded.events.values())]


def _alone(embedded: Embedded) -> Embedded:
    """The same vectors, whose gradient ends here."""

    def leaf(vectors: Tensor) -> Tensor:
        return vectors.detach().clone().requires_grad_()

    fields = {dim: leaf(vectors) for dim, vectors in embedded.fields.items()}
    events = {name: replace(one, values=leaf(one.values)) for name, one in embedded.events.items()}
    return Embedded(fields, events)


def _timed(repeat: Repeat, env: Environment, steps: int, seconds: float) -> dict[str, Any]:
    """Milliseconds, rows and events of each repeat, all ranks together."""
    warm = [_once(repeat, env)[0] for _ in range(WARM_UP)]
    slowest = torch.tensor(warm[-1], dtype=torch.float64, device=env.device)
    dist.all_reduce(slowest, dist.ReduceOp.MAX)
    count = max(LEAST, min(steps, int(1e3 * seconds / max(1e-9, float(slowest)))))
    reset = reset_peak(env.device)
    found = [_once(repeat, env) for _ in range(count)]
    mine = {"found": found, "peak": peak(env.device)}
    everyone: list[Any] = [None] * env.world_size
    dist.all_gather_object(everyone, mine)
    together = list(zip(*(one["found"] for one in everyone), strict=True))
    rows = [sum(one[1] for one in step) for step in together]
    elements: dict[str, float] = {}
    for one in (one for step in together for one in step):
        for key, count_of_key in one[3].items():
            elements[key] = elements.get(key, 0.0) + count_of_key
    return {
        "step_ms": [sum(one[0] for one in step) / len(step) for step in together],
        "rows": rows,
        "requests": [sum(one[2] for one in step) for step in together],
        "elements": {key: total / max(1, sum(rows)) for key, total in elements.items()},
        "cpu_ms": [sum(one[4] for one in step) for step in together],
        "wait_ms": None,
        "stages_ms": None,
        "sent_bytes": None,
        "peak_bytes": [one["peak"] for one in everyone],
        "peak_of": "repeats" if reset else "the whole process",
        "table_bytes": None,
    }


def _once(repeat: Repeat, env: Environment) -> tuple[float, int, int, dict[str, int], float]:
    """Milliseconds, rows, requests, elements by key, milliseconds of CPU time."""
    began, cpu = time.perf_counter(), time.process_time()
    batch = repeat()
    if env.device.type == "cuda":
        torch.cuda.synchronize(env.device)
    taken, busy = 1e3 * (time.perf_counter() - began), 1e3 * (time.process_time() - cpu)
    keys = batch.sequences.keys()
    counts = batch.sequences.lengths().view(len(keys), -1).sum(1).tolist() if keys else []
    requests = batch.requests if batch.request_of is not None else batch.rows
    return taken, batch.rows, requests, dict(zip(keys, counts, strict=True)), busy
