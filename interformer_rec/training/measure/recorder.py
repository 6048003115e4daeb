"""What a run really needs. In: the training steps, as a hook; out: measured.json, memory and time by stage of every rank.

`interformer plan score` holds a plan's prediction against this file. The peak is asked of the system twice, for training and evaluation;
time is taken in a few steps of a run's first segments (stages.py); all other steps are as they would be without.
The file's keys are those of `Measured`, which the reader has too.
"""

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

WARM_UP = 4  # first steps of a run: memory is claimed, threads wake up
FILLING, DRAIN = 1, 2  # first steps of every segment, and last ones: no batch is on its way, so unlike the others
LEAST, MOST = 3, 12  # measured steps


class Recorder(Hook):
    """One rank's measurements. `before`: bytes held when nothing of the model was made.

    Steps are timed in the first segment, and in the next ones as long as fewer than LEAST were; the peak is that of the first segment.
    """

    def __init__(self, env: Environment, pipeline: Pipeline, before: int | None) -> None:
        self._env, self._pipeline = env, pipeline
        self._memory: dict[str, int | None] = {"before": before}
        self._peak_of = "training steps"
        self._time: dict[str, list[float]] = {}  # stage -> of each timed step
        self._first_step = 0
        self._rows: list[int] = []
        self._elements: Counter[str] = Counter()
        self._evaluated_rows, self._evaluated = 0, Counter[str]()  # of the first evaluation
        self._highest = 0  # peak before the system was last asked to forget it
        self._malloc: list[tuple[int, int]] = []
        self._stages: Stages | None = None  # while steps are timed
        self._seen = self._from = self._until = 0  # steps of the run; those that are timed begin and end there

    def begin(self, steps: int) -> None:
        """The same steps are timed on every rank."""
        if "peak" not in self._memory:
            self._highest = peak(self._env.device) or 0
            if not reset_peak(self._env.device):
                self._peak_of = "the whole process"
        elif "evaluation_peak" not in self._memory:
            self._memory["evaluation_peak"] = self._peak_since()
        first = max(FILLING, WARM_UP - self._seen)
        timed = min(steps - DRAIN - first, MOST)
        if timed > 0 and len(self._rows) < LEAST:
            self._stages = Stages(self._pipeline, self._read_malloc)
            self._from, self._until = self._seen + first, self._seen + first + timed

    def step(self, info: StepInfo) -> None:
        """A timed step ends here and the next begins."""
        self._seen += 1
        if self._stages is None:
            return
        if self._seen == self._from:
            self._first_step = self._first_step or self._seen + 1
            self._stages.start()
        elif self._seen > self._from:
            self._count(info.batch)
            self._stages.cut()
        if self._seen == self._until:
            self._end_timing()

    def end(self, stopped: bool) -> None:
        """What comes now is no training step."""
        self._end_timing()
        self.close()
        if "evaluation_peak" not in self._memory:
            self._peak_since()
            if not reset_peak(self._env.device):
                self._memory["evaluation_peak"] = None

    def close(self) -> None:
        """What comes from now on (a checkpoint, an evaluation) is no training step: the peak is final."""
        if "peak" in self._memory:
            return
        self._memory["peak"] = peak(self._env.device)
        if self._env.device.type == "cuda":
            self._memory["reserved"] = torch.cuda.max_memory_reserved(self._env.device)
        elif self._malloc:
            self._memory["in_use"], self._memory["kept"] = max(self._malloc)

    def count_evaluation(self, batch: Batch) -> None:
        """A batch of an evaluation."""
        if "evaluation_peak" not in self._memory:
            self._evaluated_rows += batch.rows
            self._evaluated.update(_elements(batch))

    def _peak_since(self) -> int | None:
        found = peak(self._env.device)
        self._highest = max(self._highest, found or 0)
        return found

    def gather(self, parallel: Parallel) -> dict[str, Any]:
        """The content of measured.json (collective: every rank calls it, at the end)."""
        sizes: Counter[str] = Counter()
        for _, parts in local_state(parallel):
            for name, tensor in parts.items():
                sizes["tables" if name == "weight" else "table_state"] += tensor.nbytes
        self._memory.setdefault("evaluation_peak", self._peak_since())
        mine = {
            "memory": {**self._memory, **{name: sizes[name] for name in ("tables", "table_state")}, **_dense(parallel),
                       "process_peak": max(self._highest, peak(self._env.device) or 0)},
            "peak_of": self._peak_of,
            "time": {"first_step": self._first_step, "step": self._whole(), "stages": self._time} if self._timed else None,
            "rows": self._rows,
            "elements": _a_row(self._elements, sum(self._rows)),
            "evaluation_elements": _a_row(self._evaluated, self._evaluated_rows),
        }  # fmt: skip
        everyone: list[Any] = [None] * self._env.world_size
        dist.all_gather_object(everyone, mine)
        versions = {name: found for name, found in asdict(stack.installed()).items() if found}
        content = {
            "format": FORMAT,
            "version": __version__,
            "device": self._env.device.type,
            "ranks": self._env.world_size,
            "ranks_per_node": self._env.local_world_size,
            "versions": {name: versions[name] for name in ("torch", "torchrec", "fbgemm_cpu", "fbgemm_cuda") if name in versions},
            "by_rank": everyone,
            **({} if self._timed else {"why_no_time": self._why_no_time()}),
        }  # fmt: skip
        return Measured.model_validate(content).model_dump(mode="json", exclude_unset=True)

    @property
    def _timed(self) -> bool:
        return len(self._whole()) >= LEAST

    def _whole(self) -> list[float]:
        """Milliseconds of each timed step."""
        return [sum(stage) for stage in zip(*self._time.values(), strict=True)]

    def _why_no_time(self) -> str:
        if not self._seen:
            return "no step was trained"
        return (
            f"of {self._seen} step(s) {len(self._whole())} could be timed, {LEAST} are needed: the first {WARM_UP} of a run are left out, "
            f"and the first {FILLING} and last {DRAIN} before an evaluation"
        )

    def _end_timing(self) -> None:
        if self._stages is None:
            return
        for stage, taken in self._stages.stop().items():
            self._time.setdefault(stage, []).extend(taken)
        self._stages = None

    def _read_malloc(self) -> None:
        if self._env.device.type == "cpu" and (found := malloc_bytes()) is not None:
            self._malloc.append(found)

    def _count(self, batch: Batch) -> None:
        self._rows.append(batch.rows)
        self._elements.update(_elements(batch))


def _elements(batch: Batch) -> dict[str, int]:
    """Key -> ids in the batch."""
    found: dict[str, int] = {}
    for ids in (batch.sparse, batch.sequences):
        if ids is not None and ids.keys():
            totals = ids.lengths().view(len(ids.keys()), -1).sum(1).tolist()
            found.update(zip(ids.keys(), totals, strict=True))
    return found


def _a_row(totals: Counter[str], rows: int) -> dict[str, float]:
    return {key: total / max(1, rows) for key, total in totals.items()}


def _dense(parallel: Parallel) -> dict[str, int]:
    """Bytes of the dense part on this rank."""
    parameters, optimizer = parallel.optimizer.dense_parameters, parallel.optimizer.dense
    state = [value for held in optimizer.state.values() for value in held.values() if isinstance(value, torch.Tensor)]
    return {
        "dense_parameters": sum(p.nbytes for p in parameters),
        "gradients": sum(p.grad.nbytes for p in parameters if p.grad is not None),
        "dense_state": sum(tensor.nbytes for tensor in state),
    }
