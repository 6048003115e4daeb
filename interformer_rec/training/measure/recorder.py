"""What a run really needs. In: the training steps, as a hook; out: measured.json, memory and time by stage of every rank.

`interformer plan score` holds a plan's prediction against this file. The peak is asked of the system once, time is taken in a few steps
of a run's first segment (stages.py); all other steps are as they would be without.
The file's keys are those of `Measured`, which the reader has too.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

import torch
import torch.distributed as dist

from interformer_rec import __version__
from interformer_rec.batch import Batch
from interformer_rec.distributed.environment import Environment
from interformer_rec.distributed.parallelize import Parallel
from interformer_rec.distributed.state import local_state
from interformer_rec.install import stack
from interformer_rec.planning.score.measured_file import FORMAT, Measured
from interformer_rec.training.loop import Hook, StepInfo
from interformer_rec.training.measure.memory import malloc_bytes, peak, reset_peak
from interformer_rec.training.measure.stages import Stages
from interformer_rec.training.pipeline import Pipeline

WARM_UP = 4  # first steps: memory is claimed, threads wake up
LEAST, MOST = 3, 12  # measured steps
DRAIN = 2  # last steps of a segment: no batch to come, so unlike the others


class Recorder(Hook):
    """One rank's measurements, in the first segment. `before`: bytes held when nothing of the model was made."""

    def __init__(self, env: Environment, pipeline: Pipeline, before: int | None) -> None:
        self._env, self._pipeline = env, pipeline
        self._memory: dict[str, int | None] = {"before": before}
        self._peak_of = "training steps"
        self._time: dict[str, Any] | None = None
        self._why_no_time = "no step was trained"
        self._rows: list[int] = []
        self._elements: Counter[str] = Counter()
        self._earlier = 0  # peak of what came before the steps that are watched
        self._malloc: list[tuple[int, int]] = []
        self._stages: Stages | None = None  # while steps are timed
        self._seen = self._wanted = 0  # of the steps that are timed, WARM_UP included

    def begin(self, steps: int) -> None:
        """Of the first call's steps the same ones are timed on every rank."""
        if "peak" in self._memory:
            return
        self._earlier = peak(self._env.device) or 0
        if not reset_peak(self._env.device):
            self._peak_of = "the whole process"
        timed = min(steps - DRAIN - WARM_UP, MOST)
        if timed >= LEAST:
            self._stages, self._wanted = Stages(self._pipeline, self._read_malloc), WARM_UP + timed
        else:
            self._why_no_time = (
                f"{steps} step(s) in a row are too few to measure time: {WARM_UP + LEAST + DRAIN} are needed"
            )

    def step(self, info: StepInfo) -> None:
        """A timed step ends here and the next begins."""
        if self._stages is None:
            return
        self._seen += 1
        if self._seen == WARM_UP:
            self._stages.start()
        elif self._seen > WARM_UP:
            self._count(info.batch)
            self._stages.cut()
        if self._seen == self._wanted:
            self._end_timing(self._stages)

    def end(self, stopped: bool) -> None:
        """What comes now is no training step."""
        if self._stages is not None:
            self._end_timing(self._stages)
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
        sizes: Counter[str] = Counter()
        for _, parts in local_state(parallel):
            for name, tensor in parts.items():
                sizes["tables" if name == "weight" else "table_state"] += tensor.nbytes
        mine = {
            "memory": {**self._memory, **{name: sizes[name] for name in ("tables", "table_state")}, **_dense(parallel),
                       "process_peak": max(self._earlier, peak(self._env.device) or 0)},
            "peak_of": self._peak_of,
            "time": self._time,
            "rows": self._rows,
            "elements": {key: total / max(1, sum(self._rows)) for key, total in self._elements.items()},
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
            "by_rank": everyone,
            **({"why_no_time": self._why_no_time} if self._time is None else {}),
        }  # fmt: skip
        return Measured.model_validate(content).model_dump(mode="json", exclude_unset=True)

    def _end_timing(self, stages: Stages) -> None:
        taken = stages.stop()
        self._stages = None
        whole = [sum(stage) for stage in zip(*taken.values(), strict=True)]
        if len(whole) >= LEAST:
            self._time = {"first_step": WARM_UP + 1, "step": whole, "stages": taken}
        else:
            self._why_no_time = f"training was stopped after {self._seen} steps"

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
