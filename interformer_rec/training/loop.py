"""What hangs on the training loop, and what it is given. In: steps that are done; out: Hook, StepInfo and what the parts of a run share.

The trainer calls the hooks of a run (hooks.py), one after the other and on all ranks at the same places, so a hook may be collective.
"""

from dataclasses import dataclass

from interformer_rec.checkpoint.evaluated import Score
from interformer_rec.config.run import RunConfig
from interformer_rec.data.epoch_plan import Cursor
from interformer_rec.distributed.environment import Environment
from interformer_rec.training.folder.run_folder import RunFolder
from interformer_rec.training.folder.run_log import RunLog
from interformer_rec.training.pipeline import Step
from interformer_rec.training.timeline import Position
from interformer_rec.training.windows.order import Present
from interformer_rec.watchdog.watchdog import Watchdog


@dataclass(frozen=True)
class Run:
    """What the parts of a training run share."""

    config: RunConfig
    env: Environment
    folder: RunFolder
    log: RunLog
    position: Position
    watchdog: Watchdog

    def at(self, doing: str) -> None:
        """This rank begins `doing`: progress, for the watchdog."""
        self.watchdog.at(self.position.step, doing)


@dataclass
class StepInfo(Step[Cursor]):
    """A training step that is done, the rows of its batch and the loss on this rank among it. Reading a tensor waits for the device."""

    step: int  # of the run, from 1
    epoch: int
    last: bool  # of its segment: an evaluation, which saves, comes next


class Hook:
    """Does something beside the loop, such as counting or saving. What a hook has no use for it leaves as it is here."""

    def begin_epoch(self, continued: bool) -> None:
        """The run's position is in this epoch; `continued`: a resumed run begins inside it."""

    def begin(self, steps: int) -> None:
        """A segment of so many steps begins; a signal may end it before."""

    def step(self, info: StepInfo) -> None:
        """A step is done; the pipeline may have begun the next ones."""

    def evaluated(self, step: int, score: Score) -> None:
        """The model of this step was evaluated on data.valid, its checkpoint is whole. An exception ends the run without another one."""

    def end(self, stopped: bool) -> None:
        """The segment is over and the pipeline empty; `stopped`: by a signal."""

    def end_epoch(self) -> None:
        """No more rows of this epoch are read."""

    def end_run(self, stopped: bool) -> None:
        """Training is over, and everything is saved; `stopped`: by a signal."""

    def begin_window(self, window: Present, continued: bool) -> None:
        """Of a run with data.windows: its evaluation is over, its training comes next; `window.source` has its rows, on all ranks.

        `continued`: a resumed run begins inside it. Before it nothing of the window was read but for its evaluation.
        """

    def end_window(self, window: Present) -> None:
        """It was trained on, and the checkpoint of that is whole. May come twice for a window: a run that was killed here is resumed."""

    def waiting(self) -> None:
        """No window is there yet. Comes about once a second, on all ranks; what takes long here keeps the run from its windows."""
