"""What hangs on the training loop of a run. In: the run and its model; out: its hooks, in the order in which they act after a step."""

from __future__ import annotations

from typing import Any

from interformer_rec.distributed.parallelize import Parallel
from interformer_rec.training.length_statistics import LengthStatistics
from interformer_rec.training.loop import Hook, Run, StepInfo
from interformer_rec.training.measure.recorder import Recorder
from interformer_rec.training.non_finite_loss import FiniteLoss
from interformer_rec.training.saving import Saving
from interformer_rec.training.skipped import SkippedRows, TrainedRows
from interformer_rec.training.validation import Validation
from interformer_rec.training.window import WindowLog


class Watched(Hook):
    """Tells the watchdog of every step."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def step(self, info: StepInfo) -> None:
        """This is progress."""
        self._run.at("training")


class Hooks:
    """All hooks of a run, and the state that goes into its checkpoints."""

    def __init__(
        self, run: Run, parallel: Parallel, skipped: SkippedRows, validation: Validation, recorder: Recorder
    ) -> None:
        self.run, self.validation, self.skipped = run, validation, skipped
        self.lengths = LengthStatistics(run.config.features, run.config.data.pretraining_epochs)
        self.log = WindowLog(run, parallel.optimizer, skipped.loader.rows)
        self.saving = Saving(run, parallel, self.log.window, self.state, recorder.close)
        self.all: list[Hook] = [
            self.lengths,
            FiniteLoss(run),
            self.log,
            TrainedRows(run, skipped),
            self.saving,
            Watched(run),
            recorder,  # the last one: what the others take is a part of the step
        ]

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds beside weights (collective)."""
        return {
            **self.run.position.state(),
            **self.validation.state_dict(),
            "skipped": self.skipped.state() if self.run.position.cursor is not None else {},
            "window": self.log.window.state(),
            "lengths": self.lengths.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint's state (tables, dense part and optimizers are loaded already)."""
        self.run.position.load_state(state)
        self.saving.saved_at = self.run.position.step
        self.validation.load_state_dict(state)
        self.skipped.load_state(state["skipped"])
        self.log.window.load_state(state["window"])
        self.lengths.load_state_dict(state["lengths"])
