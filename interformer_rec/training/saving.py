"""A run's checkpoints. In: a run that stands somewhere; out: its state saved, where it is due in mid-training and when the trainer asks."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from interformer_rec.checkpoint.evaluated import Evaluated
from interformer_rec.checkpoint.saver import Saver
from interformer_rec.checkpoint.write import SaveError
from interformer_rec.distributed.parallelize import Parallel
from interformer_rec.training.log_interval import LogInterval
from interformer_rec.training.loop import Hook, Run, StepInfo
from interformer_rec.training.non_finite_loss import check_finite


class Saving(Hook):
    """All methods are collective. Raises SaveError on all ranks alike, unless training.checkpoint.on_error lets training go on."""

    def __init__(
        self,
        run: Run,
        parallel: Parallel,
        interval: LogInterval,
        state: Callable[[], dict[str, Any]],
        first: Callable[[], None],
    ) -> None:
        """`state`: what is saved beside the weights. `first`: called before anything is saved. `interval`: leaves the time out."""
        self._run, self._interval, self._state, self._first = run, interval, state, first
        self._options = run.config.training.checkpoint
        self.saved_at: int | None = None  # the step of the last checkpoint
        self._saver = Saver(
            run.folder.checkpoints,
            parallel,
            run.env,
            self._options,
            attachments=run.folder.attachments,
            beat=lambda: run.at("saving a checkpoint"),
            done=lambda record: run.folder.saved(run.log.saved, {"epoch": run.position.epoch, **record}),
        )

    def step(self, info: StepInfo) -> None:
        """Save where it is due; report a checkpoint that is written by now."""
        if info.step % self._run.config.training.log_every_steps == 0:
            self._saver.poll()
        every = self._options.every_steps
        if every and info.step % every == 0 and not info.last:
            check_finite(info, self._run)  # weights of a broken step are not saved
            began = time.perf_counter()
            self.save()
            self._interval.paused += time.perf_counter() - began

    def save(self) -> None:
        """Save the run as it stands now."""
        self._run.at("saving a checkpoint")
        self._first()
        self.wait()
        self._run.folder.require(self._run.env)
        self.saved_at = self._run.position.step
        self._guard(lambda: self._saver.save(self._state()))

    def save_once(self) -> None:
        """Save the run unless this step is saved already."""
        if self.saved_at != self._run.position.step:
            self.save()

    def conclude(self, evaluated: Evaluated) -> None:
        """Add what an evaluation says to the checkpoint of this step."""
        self._run.at("saving a checkpoint")
        self._guard(lambda: self._saver.conclude(self._run.position.step, evaluated))

    def mark(self, rows: Mapping[str, np.ndarray]) -> None:
        """Rows of tables were changed otherwise than by a step (Saver.mark)."""
        self._saver.mark(rows)

    def wait(self) -> None:
        """Until everything is written."""
        self._guard(self._saver.wait)

    def finish(self) -> None:
        """Let a write that has begun end, for training.stop_seconds."""
        self._saver.finish(self._run.config.training.stop_seconds)

    def _guard(self, saving: Callable[[], None]) -> None:
        try:
            saving()
        except SaveError as error:
            if self._options.on_error == "stop":
                raise
            self._run.log.message(f"{error}; training goes on")
