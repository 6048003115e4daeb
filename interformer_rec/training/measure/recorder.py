"""What a run really needs. In: the training steps as they go by; out: measured.json, memory and time by stage of every rank.

`interformer plan score` holds a plan's prediction against this file. The peak is asked of the system once, time is taken in a few steps
of a run's first segment (stages.py); all other steps are as they would be without.
The file's keys are those of `Measured`, which the reader has too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from interformer_rec import __version__
from interformer_rec.batch import Batch
from interformer_rec.distributed.environment import Environment
from interformer_rec.distributed.parallelize import Parallel
from interformer_rec.distributed.state import local_state
from interformer_rec.install import stack
from interformer_rec.planning.score.measured_file import FORMAT, Measured
from interformer_rec.training.measure.memory import held, malloc_bytes, peak, reset_peak
from interformer_rec.training.measure.stages import Stages
from interformer_rec.training.pipeline import Pipeline, Step

WARM_UP = 4  # first steps: memory is claimed, threads wake up
LEAST, MOST = 3, 12  # measured steps
DRAIN = 2  # last steps of a segment: no batch to come, so unlike the others

C = TypeVar("C")


class Recorder:
    """One rank's measurements. To be made before the model, so that it knows what was there without it."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._memory: dict[str, int | None] = {"before": held(env.device)}
        self._peak_of = "training steps"
        self._time: dict[str, Any] | None = None
        self._why_no_time = "no step was trained"
        self._rows: list[int] = []
        self._elements: Counter[str] = Counter()
        self._earlier = 0  # peak of what came before the steps that are watched
        self._malloc: list[tuple[int, int]] = []

    def watch(self, pipeline: Pipeline, steps: Iterator[Step[C]], count: int) -> Iterator[Step[C]]:
        """The same `count` steps; those of the first call are measured, on every rank the same ones."""
        if "peak" in self._memory:
            yield from steps
            return
        self._earlier = peak(self._env.device) or 0
        if not reset_peak(self._env.device):
            self._peak_of = "the whole process"
        timed = min(count - DRAIN - WARM_UP, MOST)
        if timed >= LEAST:
            yield from self._time_steps(pipeline, steps, timed)
        else:
            self._why_no_time = (
                f"{count} step(s) in a row are too few to measure time: {WARM_UP + LEAST + DRAIN} are needed"
            )
        yield from steps
        self.close()

    def close(self) -> None:
        """What comes from now on (a checkpoint, an evaluation) is no training step: the peak is final."""
        if "peak" in self._memory:
            return
        self._memory["peak"] = peak(self._env.device)
        if self._env.device.type == "cuda":
            self._memory["reserved"] = torch.cuda.max_memory_reserved(self._env.device)
        elif self._malloc:
            self._memory["in_use"], self._memory["kept"] = max(self._malloc)

    def gather(self, parallel: Parallel) -> dict[str, Any]:
        """The content of measured.json (collective: every rank calls it, at the end)."""
        shards = []
        sizes: Counter[str] = Counter()
        for shard, parts in local_state(parallel):
            shards.append((shard.table, [self._env.rank, shard.row, shard.column, *shard.tensor.shape]))
            for name, tensor in parts.items():
                sizes["tables" if name == "weight" else "table_state"] += tensor.nbytes
        mine = {
            "memory": {**self._memory, **{name: sizes[name] for name in ("tables", "table_state")}, **_dense(parallel),
                       "process_peak": max(self._earlier, peak(self._env.device) or 0)},
            "peak_of": self._peak_of,
            "time": self._time,
            "rows": self._rows,
            "elements": {key: total / max(1, sum(self._rows)) for key, total in self._elements.items()},
            "shards": shards,
        }  # fmt: skip
        everyone: list[Any] = [None] * self._env.world_size
        dist.all_gather_object(everyone, mine)
        versions = {name: found for name, found in asdict(stack.read()).items() if found}
        content = {
            "format": FORMAT,
            "version": __version__,
            "device": self._env.device.type,
            "ranks": self._env.world_size,
            "ranks_per_node": self._env.local_world_size,
            "versions": {name: versions[name] for name in ("torch", "torchrec", "fbgemm_cpu", "fbgemm_cuda") if name in versions},
            "tables": _tables(parallel.plan, [entry for part in everyone for entry in part.pop("shards")]),
            "by_rank": everyone,
            **({"why_no_time": self._why_no_time} if self._time is None else {}),
        }  # fmt: skip
        return Measured.model_validate(content).model_dump(mode="json", exclude_unset=True)

    def _time_steps(self, pipeline: Pipeline, steps: Iterator[Step[C]], timed: int) -> Iterator[Step[C]]:
        """The first of the steps, the measured ones last."""
        stages = Stages(pipeline, self._read_malloc)
        number = 0
        try:
            for step in steps:
                number += 1
                if number > WARM_UP:
                    self._count(step.batch)
                yield step
                if number == WARM_UP:
                    stages.start()
                elif number > WARM_UP:
                    stages.cut()
                if number == WARM_UP + timed:
                    break
        finally:
            taken = stages.stop()
        whole = [sum(stage) for stage in zip(*taken.values(), strict=True)]
        if len(whole) >= LEAST:
            self._time = {"first_step": WARM_UP + 1, "step": whole, "stages": taken}
        else:
            self._why_no_time = f"training was stopped after {number} steps"

    def _read_malloc(self) -> None:
        if self._env.device.type == "cpu" and (found := malloc_bytes()) is not None:
            self._malloc.append(found)

    def _count(self, batch: Batch) -> None:
        self._rows.append(batch.rows)
        for ids in (batch.sparse, batch.sequences):
            if ids is not None and ids.keys():
                totals = ids.lengths().view(len(ids.keys()), -1).sum(1).tolist()
                self._elements.update(dict(zip(ids.keys(), totals, strict=True)))


def _dense(parallel: Parallel) -> dict[str, int]:
    """Bytes of the dense part on this rank."""
    parameters, optimizer = parallel.optimizer.dense_parameters, parallel.optimizer.dense
    state = [value for held in optimizer.state.values() for value in held.values() if isinstance(value, torch.Tensor)]
    return {
        "dense_parameters": sum(p.nbytes for p in parameters),
        "gradients": sum(p.grad.nbytes for p in parameters if p.grad is not None),
        "dense_state": sum(tensor.nbytes for tensor in state),
    }


def _tables(plan: list[dict[str, object]], shards: list[tuple[str, list[int]]]) -> dict[str, dict[str, Any]]:
    """The plan with everyone's shards, in rank order."""
    return {
        str(row["table"]): {
            "sharding": row["sharding"],
            "kernel": row["kernel"],
            "shards": [place for table, place in shards if table == row["table"]],
        }
        for row in plan
    }
