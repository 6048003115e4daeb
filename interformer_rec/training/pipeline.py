"""TorchRec's three-stage pipeline, for training and evaluation. In: an iterator of (Batch, cursor); out: one Step a batch.

While batch i is computed, batch i+1's ids are on their way between ranks and batch i+2 is copied to the device
(TrainPipelineSparseDist; with sharding.host_cache its rows also move into the GPU's cache, PrefetchTrainPipelineSparseDist, whose
CUDA half has never run). The pipeline is drained at the end of every iterator, so training and evaluation can take turns.
"""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
import torch.distributed as dist
from torchrec.distributed.train_pipeline import (
    PrefetchTrainPipelineSparseDist,
    TrainPipelineSparseDist,
)
from torchrec.distributed.train_pipeline.train_pipelines import TrainPipeline
from torchrec.distributed.types import ShardedModule

from interformer_rec.batch import Batch
from interformer_rec.distributed.environment import Environment
from interformer_rec.distributed.parallelize import Parallel
from interformer_rec.metrics.recalibration import Lines, scale_and_shift

C = TypeVar("C")


@dataclass
class Step(Generic[C]):
    """What one batch gave. Tensors stay on the device; reading them waits for it."""

    batch: Batch  # on the host
    cursor: C  # the loader's position after this batch
    loss: torch.Tensor  # () this rank's share: the mean over ranks is the step's loss
    logits: torch.Tensor  # (B, tasks) float32
    wait_seconds: float  # spent waiting for the loader


class Pipeline:
    """One model's pipeline; `run` may be called again and again, one iterator at a time."""

    def __init__(
        self, parallel: Parallel, env: Environment, precision: str = "fp32", seed: int = 0, skipping: bool = False
    ) -> None:
        """`skipping`: loaders leave bad rows out, so that a rank does not know how many rows the others have."""
        self.model = parallel.model
        self.optimizer = parallel.optimizer
        self.seed = seed
        self.env = env
        self.precision = precision
        self.lines: Lines | None = None  # what evaluation and prediction make of the logits: see recalibrate
        self._lines: torch.Tensor | None = None  # (2, tasks)
        self._waited = 0.0  # seconds for the loader, since the last step
        self._rows = _CommonRows(env) if skipping else None
        if not any(isinstance(module, ShardedModule) for module in parallel.model.modules()):
            self.pipeline: TrainPipeline = _OneStage(self, self._forward)
            return
        kind = PrefetchTrainPipelineSparseDist if parallel.prefetch else TrainPipelineSparseDist
        self.pipeline = kind(
            parallel.model,
            parallel.optimizer,  # type: ignore[arg-type]  # it needs zero_grad and step
            env.device,
            execute_all_batches=True,
            custom_model_fwd=self._forward,
        )

    def run(
        self, batches: Iterator[tuple[Batch, C]], train: bool, at: Callable[[str], None] = lambda doing: None
    ) -> Iterator[Step[C]]:
        """Forward (and with `train` backward and update) every batch; yields in order, ends when `batches` ends.

        Every rank must bring the same number of batches: each step is collective. `at` is called with what this rank does next: wait
        for the next batch, or go on.
        """
        self.model.train(train)
        pending: deque[tuple[Batch, C]] = deque()
        self._waited = 0.0
        source = self._feed(batches, pending, at)
        while True:
            with nullcontext() if train else torch.no_grad():
                try:
                    loss, logits = self.pipeline.progress(source)
                except StopIteration:
                    return
            if not train and self._lines is not None:
                logits = logits * self._lines[0] + self._lines[1]
            batch, cursor = pending.popleft()
            yield Step(batch, cursor, loss, logits, self._waited)
            self._waited = 0.0

    def recalibrate(self, lines: Mapping[str, Sequence[float]] | None, labels: tuple[str, ...]) -> None:
        """Score by these lines from here on, a scale and a shift of each label's logits; None: by the logits as they are."""
        self.lines = None if lines is None else {label: (line[0], line[1]) for label, line in lines.items()}
        found = scale_and_shift(self.lines, labels)
        self._lines = None if found is None else torch.from_numpy(found).to(self.env.device)

    def _feed(
        self, batches: Iterator[tuple[Batch, C]], pending: deque[tuple[Batch, C]], at: Callable[[str], None]
    ) -> Iterator[Batch]:
        while True:
            at("waiting for data")
            start = time.perf_counter()
            item = next(batches, None)
            self._waited += time.perf_counter() - start
            at("training" if self.model.training else "evaluating")
            if item is None:
                return
            pending.append(item)
            if self._rows is not None and self.model.training:
                self._rows.ask(item[0].rows)
            yield item[0].pin_memory() if self.env.device.type == "cuda" else item[0]

    def _forward(self, batch: Batch | None) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        if self.model.training:
            if self._rows is not None and batch is not None:
                rows = self._rows.answer()
                self.optimizer.empty = rows == 0
                batch.loss_rows = max(1, rows) / self.env.world_size
            # Dropout of a step depends on seed, rank and step alone: a resumed run needs no generator's state.
            place = f"{self.seed}/{self.env.rank}/{self.optimizer.step_count}".encode()
            torch.manual_seed(int.from_bytes(hashlib.blake2b(place, digest_size=7).digest(), "little"))
        with torch.autocast(self.env.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            loss, logits = self.model(batch)
        return loss, (loss.detach(), logits)


class _OneStage(TrainPipeline):
    """For dense features alone: TorchRec's pipelines look for lookups to start early, and fail where there are none."""

    def __init__(self, pipeline: Pipeline, forward: Callable[[Batch], tuple[torch.Tensor, Any]]) -> None:
        self._pipeline, self._forward = pipeline, forward

    def progress(self, dataloader_iter: Iterator[Batch]) -> Any:
        """One batch; StopIteration at the end."""
        batch = next(dataloader_iter).to(self._pipeline.env.device)
        training, optimizer = self._pipeline.model.training, self._pipeline.optimizer
        if training:
            optimizer.zero_grad()
        loss, output = self._forward(batch)
        if training:
            loss.backward()
            optimizer.step()
        return output


class _CommonRows:
    """Rows of a step over all ranks. Asked for when the batch is fetched and needed two steps later, so that nobody waits for it."""

    def __init__(self, env: Environment) -> None:
        # On the host: the answer is a number, and reading one from a GPU would wait for the steps before it.
        self._group = dist.new_group(backend="gloo") if env.device.type == "cuda" else None
        self._alone = env.world_size == 1
        self._asked: deque[tuple[dist.Work | None, torch.Tensor]] = deque()

    def ask(self, rows: int) -> None:
        """Add up the rows of the next batch (collective)."""
        count = torch.tensor(rows, dtype=torch.int64)
        work = None if self._alone else dist.all_reduce(count, group=self._group, async_op=True)
        self._asked.append((work, count))

    def answer(self) -> int:
        """Of the oldest batch that was asked for."""
        work, count = self._asked.popleft()
        if work is not None:
            work.wait()
        return int(count)
