"""The training loop. In: a run, its pipeline, rows and hooks; out: checkpoints, metrics.jsonl, the best metric.

The trainer knows the order of things: epochs, segments, steps, evaluations and what is saved between them. Whatever else happens at a
step (counting, logging, measuring) hangs on it as a hook. The pipeline drains at the end of every segment.
"""

import itertools
from collections.abc import Callable, Generator, Iterator

from interformer_rec.batch import Batch
from interformer_rec.data.epoch_plan import Cursor
from interformer_rec.distributed.job.rank_lost import RankLost, connection_was_lost
from interformer_rec.distributed.parallelize import Parallel
from interformer_rec.errors import InputError
from interformer_rec.training.folder.lock import RunLost
from interformer_rec.training.hooks import Hooks
from interformer_rec.training.loop import Run, StepInfo
from interformer_rec.training.non_finite_loss import NonFiniteLoss
from interformer_rec.training.pipeline import Pipeline
from interformer_rec.training.scoring.evaluation import Interrupted
from interformer_rec.training.skipped import TooManySkipped
from interformer_rec.training.stopping import StopAgreement, StopRequest
from interformer_rec.training.validation import SAVED


class Trainer:
    """Trains until epochs, max_steps, patience or a signal end it."""

    def __init__(
        self,
        run: Run,
        parallel: Parallel,
        pipeline: Pipeline,
        hooks: Hooks,
        enter_window: Callable[[StopAgreement], int] = lambda agreement: 0,
    ) -> None:
        """`enter_window`: called before the first epoch and after each; of a run with windows it gives the epochs to come their rows
        (windows/loop.py). Returns a signal's number to stop, else 0."""
        self.enter_window = enter_window
        self.run, self.position, self.parallel, self.pipeline = run, run.position, parallel, pipeline
        self.hooks, self.saving, self.validation = hooks, hooks.saving, hooks.validation
        self.request = StopRequest()
        self.agreement = StopAgreement(self.request, run.config.training.stop_seconds, run.env.device)

    def fit(self) -> int:
        """Train to the end (collective). Returns 0, or the number of the signal that ended it early; state is saved.

        Raises InputError (data), SaveError, NonFiniteLoss, RankLost.
        """
        with self.request.listen(), self.run.watchdog:
            try:
                stopped_by = self._train()
                self.saving.wait()
                for hook in self.hooks.all:
                    hook.end_run(bool(stopped_by))
                return stopped_by
            except InputError as error:
                if (
                    isinstance(error, TooManySkipped) and self.position.steps_left
                ):  # --resume goes on with another limit
                    self.saving.save()
                raise error.reworded(f"after step {self.position.step}: {error}") from error
            except NonFiniteLoss as error:
                self.saving.finish()
                raise error.with_checkpoints(self.run.folder.checkpoints) from None
            except RuntimeError as error:
                if isinstance(error, RunLost) or not connection_was_lost(error):
                    raise
                raise RankLost(self.position.step, self.run.watchdog.last_seen(), error) from error
            finally:
                self.saving.finish()

    def segments(self) -> Generator[None, int, None]:
        """Train as many steps as are sent in, again and again, from the first row on and from there again where an epoch ends (collective).

        For who measures steps: nothing is evaluated or saved. Raises as `fit`.
        """
        with self.request.listen(), self.run.watchdog:
            self.parallel.begin_epoch(0)
            for hook in self.hooks.all:
                hook.begin_epoch(False)
            stream = itertools.chain.from_iterable(map(self.hooks.skipped.loader.batches, itertools.count()))
            while True:
                self._segment(stream, (yield))

    def _train(self) -> int:
        stopped_by = self._evaluate() if self.position.evaluate else 0
        stopped_by = stopped_by or self.enter_window(self.agreement)
        while not stopped_by and not self._finished:
            stopped_by = self._epoch() or self.enter_window(self.agreement)
        if stopped_by:
            self.run.log.message(f"signal {stopped_by}: saving at step {self.position.step}, then stopping")
            self.saving.save_once()
        return stopped_by

    @property
    def _finished(self) -> bool:
        return self.validation.exhausted or self.position.over

    def _epoch(self) -> int:
        """The rest of the current epoch, with evaluations; returns a signal's number to stop, else 0."""
        position = self.position
        position.pass_over()
        self.parallel.begin_epoch(position.epoch)
        for hook in self.hooks.all:
            hook.begin_epoch(position.cursor is not None)
        stream = self.hooks.skipped.loader.batches(position.epoch, position.cursor)
        end = position.step + position.steps_left
        while position.step < end and not self._finished:
            stopped_by = self._segment(stream, position.segment_steps(end))
            if not stopped_by and (position.step >= end or self._finished):
                for hook in self.hooks.all:
                    hook.end_epoch()
            if position.step >= end:
                position.epoch, position.cursor = position.epoch + 1, None
            if stopped_by:
                position.evaluate = position.evaluation_is_due(end)
                return stopped_by
            if stopped_by := self._evaluate():
                return stopped_by
        return 0

    def _segment(self, stream: Iterator[tuple[Batch, Cursor]], steps: int) -> int:
        """Train `steps` steps, fewer if a signal is agreed on; the pipeline is empty afterwards. Returns the signal's number, or 0."""
        position, stopping, last = self.position, 0, self.position.step + steps
        batches = itertools.takewhile(lambda _: not stopping, itertools.islice(stream, steps))
        for hook in self.hooks.all:
            hook.begin(steps)
        for done in self.pipeline.run(batches, train=True, at=self.run.at):
            position.step, position.cursor = position.step + 1, done.cursor
            info = StepInfo(**vars(done), step=position.step, epoch=position.epoch, last=position.step == last)
            for hook in self.hooks.all:
                hook.step(info)
            stopping = stopping or self.agreement.step()
        for hook in self.hooks.all:
            hook.end(bool(stopping))
        return stopping

    def _evaluate(self) -> int:
        """Save, validate, add what that says to the checkpoint; returns a signal's number to stop, else 0."""
        data = self.validation.data
        self.position.evaluate = data is not None
        if data is None:
            self.saving.save()
            return 0
        self.saving.save_once()
        self.run.at("evaluating")
        try:
            evaluated = self.validation.evaluate(self.pipeline, data, self.agreement.step)
        except Interrupted as interruption:
            return interruption.signal
        except InputError as error:
            self.saving.wait()
            raise error.reworded(f"{error}. {SAVED}") from error
        self.position.evaluate = False
        self.saving.conclude(evaluated)
        if evaluated.score is not None:
            for hook in self.hooks.all:
                hook.evaluated(self.position.step, evaluated.score)
        return 0
