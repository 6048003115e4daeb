"""The training loop. In: everything built (model, optimizer, loaders, log); out: checkpoints, metrics.jsonl, the best metric.

An epoch is cut into segments that end where an evaluation is due; the pipeline drains there. All ranks take the same steps
(the loader's plan says how many), so an epoch's end needs no message. Every `log_every_steps` steps the ranks exchange one
small vector: loss, rows, waiting time, and whether somebody was told to stop.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from interformer_rec.config import RunConfig
from interformer_rec.data.loader import Loader
from interformer_rec.data.plan import Cursor
from interformer_rec.distributed.checkpoint import SaveError
from interformer_rec.distributed.environment import Environment
from interformer_rec.distributed.parallelize import Parallel
from interformer_rec.training.evaluation import Evaluation, evaluate
from interformer_rec.training.metrics import WindowMetrics
from interformer_rec.training.pipeline import Pipeline, Step
from interformer_rec.training.progress import RunLog
from interformer_rec.training.run_folder import RunFolder
from interformer_rec.training.sanity import check_finite
from interformer_rec.training.statistics import LengthStatistics
from interformer_rec.training.stopping import STOP_SIGNALS, Progress, StopRequest


@dataclass
class Position:
    """Where a run is; saved with every checkpoint."""

    epoch: int = 0
    step: int = 0
    cursor: Cursor | None = None


class Window:
    """What happened since the last exchange between ranks; tensors stay on the device until then."""

    def __init__(self, tasks: list[str], device: torch.device) -> None:
        self.metrics = WindowMetrics(tasks, device)
        self.device = device
        self.steps = 0
        self.wait = 0.0
        self.start = time.perf_counter()

    def add(self, step: Step[Cursor]) -> None:
        """Count one step."""
        batch = step.batch
        self.metrics.update(step.loss, step.logits, batch.labels, batch.weights, batch.rows)
        self.steps += 1
        self.wait += step.wait_seconds

    def exchange(self, stop_signal: int) -> tuple[dict[str, float], int]:
        """Sum over ranks (waits for the device): the record for the log, and the number of a signal to stop, or 0."""
        told = [float(stop_signal == number) for number in STOP_SIGNALS]
        vector = torch.tensor([self.wait, *told], dtype=torch.float64, device=self.device)
        dist.all_reduce(vector)
        wait, *asked = vector.tolist()
        record = self.metrics.compute()
        seconds = time.perf_counter() - self.start
        record |= {
            "seconds": seconds,
            "samples_per_second": record["rows"] / seconds,
            "data_wait_share": wait / dist.get_world_size() / seconds,
        }
        return record, next((number for number, ranks in zip(STOP_SIGNALS, asked, strict=True) if ranks), 0)


class Trainer:
    """Trains until epochs, max_steps, patience or a signal end it."""

    def __init__(
        self,
        config: RunConfig,
        env: Environment,
        parallel: Parallel,
        pipeline: Pipeline,
        train: Loader,
        valid: Loader | None,
        folder: RunFolder,
        log: RunLog,
    ) -> None:
        self.config, self.env, self.parallel, self.pipeline = config, env, parallel, pipeline
        self.train_loader, self.valid_loader, self.folder, self.log = train, valid, folder, log
        self.options = config.training
        self.position = Position()
        self.progress = Progress(self.options.monitor, self.options.patience)
        self.request = StopRequest()
        self.lengths = LengthStatistics(config.features)
        self.best_evaluation: Evaluation | None = None
        self.tasks = [label.name for label in config.features.labels]
        self.monitored = f"{self.tasks[0]}/{self.options.monitor}"

    def fit(self) -> int:
        """Train to the end (collective). Returns 0, or the number of the signal that ended it early; state is saved."""
        with self.request.listen():
            while self.position.epoch < self.options.epochs and not self._finished:
                signal_number = self._epoch()
                if signal_number:
                    self.log.message(f"signal {signal_number}: saving at step {self.position.step}, then stopping")
                    self._save()
                    return signal_number
        return 0

    @property
    def _finished(self) -> bool:
        limit = self.options.max_steps
        return self.progress.exhausted or (limit is not None and self.position.step >= limit)

    def _epoch(self) -> int:
        """The rest of the current epoch, with evaluations; returns a signal's number to stop, else 0."""
        cursor = self.position.cursor
        stream = self.train_loader.batches(self.position.epoch, cursor)
        end = self.position.step + (self.train_loader.steps if cursor is None else self.train_loader.steps_left(cursor))
        while self.position.step < end and not self._finished:
            signal_number = self._segment(stream, self._segment_steps(end))
            if signal_number:
                return signal_number
            if self.position.step < end:
                self._evaluate()
        if self.position.step >= end:
            self.position.epoch, self.position.cursor = self.position.epoch + 1, None
            self._evaluate()
        return 0

    def _segment_steps(self, end: int) -> int:
        """Steps until the next evaluation, the epoch's end or max_steps."""
        ends = [end]
        if self.options.eval_every_steps:
            ends.append((self.position.step // self.options.eval_every_steps + 1) * self.options.eval_every_steps)
        if self.options.max_steps:
            ends.append(self.options.max_steps)
        return min(ends) - self.position.step

    def _segment(self, stream: Iterator[tuple[Any, Cursor]], steps: int) -> int:
        """Train `steps` steps, fewer if a signal is agreed on; the pipeline is empty afterwards."""
        stopping = 0
        window = Window(self.tasks, self.env.device)
        previous: Step[Cursor] | None = None
        batches = itertools.takewhile(lambda _: not stopping, itertools.islice(stream, steps))
        for step in self.pipeline.run(batches, train=True):
            self.position.step += 1
            self.position.cursor = step.cursor
            self.lengths.add(step.batch, self.position.epoch)
            window.add(step)
            check_finite(previous, self.position.step - 1, self.env, self.folder.path)  # a step late: it is done by now
            previous = step
            if self.position.step % self.options.log_every_steps == 0:
                stopping = self._exchange(window) or stopping
                window = Window(self.tasks, self.env.device)
        check_finite(previous, self.position.step, self.env, self.folder.path)
        if window.steps:  # after a signal: the steps that were in the pipeline
            stopping = self._exchange(window) or stopping
        return stopping

    def _exchange(self, window: Window) -> int:
        record, signal_number = window.exchange(self.request.signal)
        optimizer = self.parallel.optimizer
        rates = {
            "lr_dense": optimizer.lr_dense * optimizer.factor,
            "lr_embedding": optimizer.lr_embedding * optimizer.factor,
        }
        self.log.train({"epoch": self.position.epoch, "step": self.position.step, **record, **rates})
        return signal_number

    def _evaluate(self) -> None:
        """Validate, remember the best, move the plateau schedule, save."""
        best = True
        if self.valid_loader is not None:
            evaluation = evaluate(self.pipeline, self.valid_loader, self.config.features, self.env)
            self.log.evaluation(
                "valid", {"epoch": self.position.epoch, "step": self.position.step, **evaluation.metrics}
            )
            value = evaluation.metrics[self.monitored]
            best = self.progress.observe(value)
            self.parallel.optimizer.rate.observe(value)
            if best:
                self.best_evaluation = evaluation
        self._save(best)

    def _save(self, best: bool = False) -> None:
        cursor = self.position.cursor  # the same on every rank
        state = {
            "epoch": self.position.epoch,
            "step": self.position.step,
            "cursor": cursor.to_dict() if cursor is not None else None,
            "optimizer_steps": self.parallel.optimizer.step_count,
            "schedule": self.parallel.optimizer.rate.state_dict(),
            "progress": self.progress.state_dict(),
            "lengths": self.lengths.state_dict(),
            "best_evaluation": self.best_evaluation.to_dict() if self.best_evaluation else None,
        }
        try:
            self.folder.save_checkpoint(self.parallel, self.env, state, best, self.options.keep_checkpoints)
        except SaveError as error:  # on all ranks alike
            if self.options.on_save_error == "stop":
                raise
            self.log.message(f"{error}; training goes on")

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint's state (tables and dense part are loaded already)."""
        self.position = Position(state["epoch"], state["step"])
        if state["cursor"] is not None:
            self.position.cursor = Cursor.from_dict(state["cursor"])
        self.parallel.optimizer.step_count = state["optimizer_steps"]
        self.parallel.optimizer.rate.load_state_dict(state["schedule"])
        self.progress.load_state_dict(state["progress"])
        self.lengths.load_state_dict(state["lengths"])
        if state["best_evaluation"]:
            metrics = dict(state["best_evaluation"])
            self.best_evaluation = Evaluation(calibration_bins=metrics.pop("calibration_bins"), metrics=metrics)
