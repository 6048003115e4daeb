"""The training loop. In: everything built (model, optimizer, loaders, log); out: checkpoints, metrics.jsonl, the best metric.

An epoch is cut into segments that end where an evaluation is due; the pipeline drains there. All ranks take the same steps
(the loader's plan says how many), so an epoch's end needs no message. Every `log_every_steps` steps the ranks exchange loss,
rows and waiting time. Everywhere else the watchdog knows what this rank is doing.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from interformer_rec.batch import Batch
from interformer_rec.checkpoint.saver import Saver
from interformer_rec.checkpoint.write import SaveError
from interformer_rec.config.run import RunConfig
from interformer_rec.data.epoch_plan import Cursor
from interformer_rec.data.loader import Loader
from interformer_rec.distributed.environment import Environment
from interformer_rec.distributed.job.rank_lost import RankLost, connection_was_lost
from interformer_rec.distributed.parallelize import Parallel
from interformer_rec.errors import InputError
from interformer_rec.training.epoch_phase import epoch_line
from interformer_rec.training.folder.lock import RunLost
from interformer_rec.training.folder.run_folder import RunFolder
from interformer_rec.training.folder.run_log import RunLog
from interformer_rec.training.length_statistics import LengthStatistics
from interformer_rec.training.measure.recorder import Recorder
from interformer_rec.training.non_finite_loss import NonFiniteLoss, check_finite
from interformer_rec.training.pipeline import Pipeline, Step
from interformer_rec.training.scoring.evaluation import Interrupted
from interformer_rec.training.skipped import SkippedRows
from interformer_rec.training.stopping import StopAgreement, StopRequest
from interformer_rec.training.validation import SAVED, Validation
from interformer_rec.training.window import Window
from interformer_rec.watchdog.watchdog import Watchdog


@dataclass
class Position:
    """Where a run is; saved with every checkpoint."""

    epoch: int = 0
    step: int = 0
    cursor: Cursor | None = None
    evaluate: bool = False  # an evaluation is due here: not begun, or ended by a signal, an error or a kill

    @property
    def place(self) -> dict[str, int]:
        """For a record of the log."""
        return {"epoch": self.epoch, "step": self.step}


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
        recorder: Recorder,
    ) -> None:
        self.config, self.env, self.parallel, self.pipeline = config, env, parallel, pipeline
        self.train_loader, self.folder, self.log, self.recorder = train, folder, log, recorder
        self.options, self.position, self.request = config.training, Position(), StopRequest()
        self.skipped = SkippedRows(train, config.data.max_bad_rows, "data.train", env)
        self.validation = Validation(config, env, parallel.optimizer.rate, valid, log)
        self.agreement = StopAgreement(self.request, self.options.stop_seconds, env.device)
        self.lengths = LengthStatistics(config.features, config.data.pretraining_epochs)
        self.window = Window([label.name for label in config.features.labels], env.device)
        self.watchdog = Watchdog(env, self.options.hang_seconds)
        self.saved_at: int | None = None
        self.saver = Saver(
            folder.checkpoints,
            parallel,
            env,
            keep=self.options.checkpoint.keep,
            asynchronous=self.options.checkpoint.asynchronous,
            full_every=self.options.checkpoint.full_every,
            beat=lambda: self._at("saving a checkpoint"),
            done=lambda record: folder.saved(log.saved, {"epoch": self.position.epoch, **record}),
        )

    def fit(self) -> int:
        """Train to the end (collective). Returns 0, or the number of the signal that ended it early; state is saved.

        Raises InputError (data), SaveError, NonFiniteLoss, RankLost.
        """
        self.saver.attachments = self.folder.attachments() if self.env.is_main else self.saver.attachments
        with self.request.listen(), self.watchdog:
            try:
                stopped_by = self._train()
                self._wait_for_saving()
                return stopped_by
            except InputError as error:
                raise error.reworded(f"after step {self.position.step}: {error}") from error
            except NonFiniteLoss as error:
                self.saver.finish(self.options.stop_seconds)
                raise error.with_checkpoints(self.folder.checkpoints) from None
            except RuntimeError as error:
                if isinstance(error, RunLost) or not connection_was_lost(error):
                    raise
                raise RankLost(self.position.step, self.watchdog.last_seen(), error) from error
            finally:
                self.saver.finish(self.options.stop_seconds)

    def _train(self) -> int:
        stopped_by = self._evaluate() if self.position.evaluate else 0
        while not stopped_by and self.position.epoch < self.options.epochs and not self._finished:
            stopped_by = self._epoch()
        if stopped_by:
            self.log.message(f"signal {stopped_by}: saving at step {self.position.step}, then stopping")
            if self.saved_at != self.position.step:
                self._save()
        return stopped_by

    @property
    def total_steps(self) -> int:
        """The run's last step, from where it stands: a run that changed its number of ranks has steps of two sizes."""
        cursor, loader = self.position.cursor, self.train_loader
        steps = self.position.step + loader.steps * (self.options.epochs - self.position.epoch)
        if cursor is not None:
            steps += loader.steps_left(cursor) - loader.steps
        return min(self.options.max_steps or steps, steps)

    @property
    def _finished(self) -> bool:
        limit = self.options.max_steps
        return self.validation.exhausted or (limit is not None and self.position.step >= limit)

    def _epoch(self) -> int:
        """The rest of the current epoch, with evaluations; returns a signal's number to stop, else 0."""
        cursor, epoch = self.position.cursor, self.position.epoch
        self.parallel.begin_epoch(epoch)
        self.window.begin_epoch(whole=cursor is None)
        self.log.message(epoch_line(self.config, epoch, self.train_loader.rows, cursor is not None))
        stream = self._watched(self.skipped.follow(self.position.epoch, cursor))
        end = self.position.step + (self.train_loader.steps if cursor is None else self.train_loader.steps_left(cursor))
        while self.position.step < end and not self._finished:
            stopped_by = self._segment(stream, self._segment_steps(end))
            if not stopped_by and (self.position.step >= end or self._finished):
                self.window.require_weight(self.config, self.position.epoch)
            if self.position.step >= end:
                self.position.epoch, self.position.cursor = self.position.epoch + 1, None
            if stopped_by:
                self.position.evaluate = self._evaluation_is_due(end)
                return stopped_by
            if stopped_by := self._evaluate():
                return stopped_by
        return 0

    def _segment_steps(self, end: int) -> int:
        """Steps until the next evaluation, the epoch's end or max_steps."""
        ends = [end]
        if self.options.eval_every_steps:
            ends.append((self.position.step // self.options.eval_every_steps + 1) * self.options.eval_every_steps)
        if self.options.max_steps:
            ends.append(self.options.max_steps)
        return min(ends) - self.position.step

    def _evaluation_is_due(self, end: int) -> bool:
        every, step = self.options.eval_every_steps, self.position.step
        return step >= end or step == self.options.max_steps or bool(every and step % every == 0)

    def _segment(self, stream: Iterator[tuple[Batch, Cursor]], steps: int) -> int:
        """Train `steps` steps, fewer if a signal is agreed on; the pipeline is empty afterwards."""
        stopping = 0
        self.window.restart_clock()
        previous: Step[Cursor] | None = None
        batches = itertools.takewhile(lambda _: not stopping, itertools.islice(stream, steps))
        last = self.position.step + steps
        for step in self.recorder.watch(self.pipeline, self.pipeline.run(batches, train=True), steps):
            self.position.step += 1
            self.position.cursor = step.cursor
            self.skipped.trained(step.cursor)
            self.lengths.add(step.batch, self.position.epoch)
            self.window.add(step)
            check_finite(previous, self.position.step - 1, self.env, self.folder)  # a step late: it is done by now
            previous = step
            if self.position.step % self.options.log_every_steps == 0:
                self._exchange()
            if self.position.step < last:  # at its end an evaluation saves
                self._save_if_due(step)
            stopping = stopping or self.agreement.step()
            self._at("training")
        check_finite(previous, self.position.step, self.env, self.folder)
        if self.window.steps and not stopping:
            self._exchange()
        return stopping

    def _watched(
        self, stream: Iterator[tuple[Batch, Cursor]], then: str = "training"
    ) -> Iterator[tuple[Batch, Cursor]]:
        """The same stream; the watchdog knows when this rank waits for it, and what it does `then`."""
        while True:
            self._at("waiting for data")
            item = next(stream, None)
            self._at(then)
            if item is None:
                return
            yield item

    def _at(self, doing: str) -> None:
        self.watchdog.at(self.position.step, doing)

    def _exchange(self) -> None:
        self._at("exchanging metrics")
        record, skipped = self.window.exchange(self.skipped.here)
        by = self.parallel.optimizer
        rates = {"lr_dense": by.lr_dense * by.factor, "lr_embedding": by.lr_embedding * by.factor}
        self.log.train({"epoch": self.position.epoch, "step": self.position.step, **record, **rates})
        self.saver.poll()
        if self.skipped.too_many(skipped):
            if self.position.cursor is not None and self.train_loader.steps_left(self.position.cursor):
                self._save()
            raise self.skipped.error()

    def _evaluate(self) -> int:
        """Save, validate, add what that says to the checkpoint; returns a signal's number to stop, else 0."""
        loader = self.validation.loader
        if loader is None:
            self.position.evaluate = False
            self._save()
            return 0
        self.position.evaluate = True
        if self.saved_at != self.position.step:
            self._save()
        self._at("evaluating")
        try:
            stream = self._watched(loader.batches(), "evaluating")
            evaluated = self.validation.run(self.pipeline, stream, self.position.place, self.agreement.step)
        except Interrupted as interruption:
            return interruption.signal
        except InputError as error:
            self._wait_for_saving()
            raise error.reworded(f"{error}. {SAVED}") from error
        self.position.evaluate = False
        self._at("saving a checkpoint")
        self._guard(lambda: self.saver.conclude(self.position.step, evaluated))
        return 0

    def _save_if_due(self, step: Step[Cursor]) -> None:
        every = self.options.checkpoint.every_steps
        if every and self.position.step % every == 0:
            check_finite(step, self.position.step, self.env, self.folder)  # weights of a broken step are not saved
            began = time.perf_counter()
            self._save()
            self.window.paused += time.perf_counter() - began

    def _save(self) -> None:
        self._at("saving a checkpoint")
        self.recorder.close()
        self._wait_for_saving()
        self.folder.require(self.env)
        self.saved_at = self.position.step
        self._guard(lambda: self.saver.save(self._state()))

    def _wait_for_saving(self) -> None:
        self._guard(self.saver.wait)

    def _guard(self, saving: Callable[[], None]) -> None:
        try:
            saving()
        except SaveError as error:  # on all ranks alike
            if self.options.checkpoint.on_error == "stop":
                raise
            self.log.message(f"{error}; training goes on")

    def _state(self) -> dict[str, Any]:
        cursor = self.position.cursor  # the same on every rank
        return {
            "epoch": self.position.epoch,
            "step": self.position.step,
            "cursor": cursor.to_dict() if cursor is not None else None,
            "evaluate": self.position.evaluate,
            **self.validation.state_dict(),
            "skipped": self.skipped.state(cursor),
            "window": self.window.state(),
            "lengths": self.lengths.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint's state (tables, dense part and optimizers are loaded already)."""
        self.position = Position(state["epoch"], state["step"], evaluate=state["evaluate"])
        if state["cursor"] is not None:
            self.position.cursor = Cursor.from_dict(state["cursor"])
        self.saved_at = self.position.step
        self.validation.load_state_dict(state)
        self.skipped.load_state(state["skipped"])
        self.window.load_state(state["window"])
        self.lengths.load_state_dict(state["lengths"])
