"""Bytes on a rank while a data set is evaluated. In: a Problem, placed options, their memory in training; out: items, (ranks,) bytes.

Nothing is kept for a backward pass, but a batch has data.eval_batch_size rows, often many more than one of training. The pipeline is
empty when an evaluation begins; tables, gradients, optimizer and what the training loader holds stay. On a CPU malloc serves the
evaluation with what training gave back, so holes are not counted once more.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torchrec.distributed.planner.types import ShardingOption

from interformer_rec.config.run import RunConfig
from interformer_rec.planning.cost.loader_memory import loader_bytes
from interformer_rec.planning.cost.memory import (
    DECODING,
    IDS,
    LOADED,
    LOADED_BATCHES,
    RankMemory,
    batch_bytes,
    rank_memory,
)
from interformer_rec.planning.question import Problem
from interformer_rec.text import size

METRICS = 170  # bytes that exact metrics take of a row (metrics/evaluation.py)


def evaluates(config: RunConfig) -> bool:
    """Names the config data to evaluate."""
    return config.data.valid is not None or config.data.test is not None


def evaluation_memory(
    problem: Problem, options: Sequence[ShardingOption], memory: RankMemory, data_rows: int | None = None
) -> dict[str, np.ndarray]:
    """`memory`: of the same plan in training; `data_rows`: of the data, where they are known: more than a loader keeps, if not."""
    data = problem.config.data
    rows = data.eval_batch_size
    job = replace(problem.job, batch_size=rows)
    larger = rank_memory(options, problem.tables, job, problem.constant, (memory.capacity, memory.host_capacity))
    batch = batch_bytes(problem.config.features, problem.sizes, rows)
    found: dict[str, np.ndarray | float] = {
        **memory.always,
        IDS: larger.always[IDS],
        LOADED_BATCHES: LOADED * batch,
        "vectors and tensors of a forward pass": problem.dense_costs.evaluation(rows),
    }
    if job.device == "cpu":
        in_order = problem.config.model_copy(
            update={"data": data.model_copy(update={"shuffle_rows": 0, "history_pretraining": None})}
        )
        loader = loader_bytes(in_order, problem.sizes, problem.ranks, data_rows)
        found["rows of the evaluation decoded"] = loader.decoded + (loader.batches_ahead * batch)
        found[DECODING] = loader.decoding
        found["metrics"] = METRICS * (data_rows or 0) / problem.ranks
    return {name: np.broadcast_to(np.asarray(values, float), (problem.ranks,)) for name, values in found.items()}


def evaluation_sentence(peak: Sequence[float], usable: float, rows: int) -> str:
    """What an evaluation holds, and what to do where that is too much; `peak` of each rank."""
    most = max(range(len(peak)), key=lambda rank: peak[rank])
    text = f"An evaluation, {rows:,} rows a rank and batch, holds {size(peak[most])} at most, on rank {most}"
    return f"{text}: more than there is to use, so set data.eval_batch_size lower" if peak[most] > usable else text
