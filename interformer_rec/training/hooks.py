"""What hangs on the training loop of a run. In: the run and its model; out: its hooks, in the order in which they act after a step."""

from collections.abc import Sequence
from typing import Any

from interformer_rec.data.growth.admission import growing_tables
from interformer_rec.distributed.parallelize import Parallel
from interformer_rec.storage import Storage
from interformer_rec.training.length_statistics import LengthStatistics
from interformer_rec.training.log_interval import IntervalLog
from interformer_rec.training.loop import Hook, Run, StepInfo
from interformer_rec.training.measure.recorder import Recorder
from interformer_rec.training.non_finite_loss import FiniteLoss
from interformer_rec.training.saving import Saving
from interformer_rec.training.skipped import SkippedRows, TrainedRows
from interformer_rec.training.validation import Validation
from interformer_rec.training.windows.growing_tables import GrowingTables
from interformer_rec.training.windows.publishing import Publishing
from interformer_rec.training.windows.rows import WindowRows


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
        self,
        run: Run,
        parallel: Parallel,
        skipped: SkippedRows,
        validation: Validation,
        recorder: Recorder,
        windows: WindowRows | None = None,
        more: Sequence[Hook] = (),
    ) -> None:
        """`skipped`: of the rows that are trained on; `windows`: of a run with data.windows; `more`: the caller's own."""
        self.run, self.validation, self.skipped, self.windows = run, validation, skipped, windows
        self.lengths = LengthStatistics(run.config.features, run.config.data.pretraining_epochs)
        self.log = IntervalLog(run, parallel.optimizer, skipped)
        self.saving = Saving(run, parallel, self.log.interval, self.state, recorder.close)
        grows = windows is not None and growing_tables(run.config.features)
        self.growing = GrowingTables(run, parallel, self.saving, windows) if windows is not None and grows else None
        self.all: list[Hook] = [
            # the first one: others read a window by its vocabularies
            *([self.growing] if self.growing is not None else []),
            self.lengths,
            FiniteLoss(run),
            self.log,
            TrainedRows(run, skipped),
            self.saving,
            Watched(run),
            *([Publishing(run, run.config.publish)] if run.config.publish is not None else []),
            *more,
            recorder,  # the last one: what the others take is a part of the step
        ]

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds beside weights (collective)."""
        return {
            **self.run.position.state(),
            **self.validation.state_dict(),
            "skipped": self.skipped.state() if self.run.position.cursor is not None else {},
            "interval": self.log.interval.state(),
            "lengths": self.lengths.state_dict(),
            "windows": self.windows.state() if self.windows is not None else None,
        }

    def restore(self, state: dict[str, Any], checkpoint: Storage) -> None:
        """Continue from a checkpoint, whose state this is (tables, dense part and optimizers are loaded already). Raises DamagedError."""
        if self.growing is not None:
            self.growing.restore(checkpoint)
        if self.windows is not None and state["windows"] is not None:  # the position is inside of one
            self.windows.load_state(state["windows"], state["epoch"])
        self.run.position.load_state(state)
        self.saving.saved_at = self.run.position.step
        self.validation.load_state_dict(state)
        self.skipped.load_state(state["skipped"])
        self.log.interval.load_state(state["interval"])
        self.lengths.load_state_dict(state["lengths"])
