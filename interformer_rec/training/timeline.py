"""Where a run stands and when something is due. In: training options, the loader's steps; out: the ends of segments, epochs and the run.

An epoch is cut into segments, which end where an evaluation is due. All ranks take the same steps (the loader's plan says how many), so
no end needs a message.
"""

from typing import Any

from interformer_rec.config.run import TrainingConfig
from interformer_rec.data.epoch_plan import Cursor
from interformer_rec.data.loader import Loader


def is_over(epochs: int, max_steps: int | None, epoch: int, step: int) -> bool:
    """Whether `epochs` or `max_steps` end a run there."""
    return epoch >= epochs or (max_steps is not None and step >= max_steps)


class Position:
    """The step, the epoch and the place inside it; saved with every checkpoint."""

    def __init__(self, options: TrainingConfig, loader: Loader | None, left_out: range = range(0)) -> None:
        """`loader`: of the run's rows; None until a window begins. `left_out`: epochs that are not run."""
        self._options, self._loader, self._left_out = options, loader, left_out
        self.epoch = self.step = 0
        self.end_epoch = options.epochs if loader is not None else 0  # of the run, or of the window it is in
        self.cursor: Cursor | None = None  # None: an epoch begins
        self.evaluate = False  # an evaluation is due here: not begun, or ended by a signal, an error or a kill
        self.total_steps = self._last_step()  # of the run

    def _last_step(self) -> int:
        """From where it stands: a run that changed its number of ranks has steps of two sizes."""
        epoch_steps = self._loader.steps if self._loader is not None else 0
        later = [epoch for epoch in range(self.epoch + 1, self.end_epoch) if epoch not in self._left_out]
        steps = self.step + self.steps_left + epoch_steps * len(later)
        return min(self._options.max_steps or steps, steps)

    def begin_window(self, loader: Loader, end_epoch: int) -> None:
        """Read other rows from here on, until `end_epoch`; a cosine schedule does not end with them."""
        self._loader, self.end_epoch = loader, end_epoch
        self.total_steps = self._last_step()

    def pass_over(self) -> None:
        """Go to the next epoch that is run."""
        while self.epoch in self._left_out:
            self.epoch += 1

    @property
    def place(self) -> dict[str, int]:
        """For a record of the log."""
        return {"epoch": self.epoch, "step": self.step}

    @property
    def steps_left(self) -> int:
        """Of this epoch."""
        if self._loader is None or self.epoch in self._left_out:
            return 0
        return self._loader.steps if self.cursor is None else self._loader.steps_left(self.cursor)

    @property
    def over(self) -> bool:
        """All epochs, of the run or of the window it is in, or max_steps, are done."""
        return is_over(self.end_epoch, self._options.max_steps, self.epoch, self.step)

    @property
    def stopped_by_steps(self) -> bool:
        """max_steps are done."""
        return self._options.max_steps is not None and self.step >= self._options.max_steps

    def segment_steps(self, end: int) -> int:
        """Steps until the next evaluation, the epoch's end (step `end`) or max_steps."""
        every = self._options.eval_every_steps
        ends = (end, self._options.max_steps or end, (self.step // every + 1) * every if every else end)
        return min(ends) - self.step

    def evaluation_is_due(self, end: int) -> bool:
        """Whether a segment ends here, in an epoch that ends at step `end`."""
        every = self._options.eval_every_steps
        return self.step in (end, self._options.max_steps) or bool(every and self.step % every == 0)

    def state(self) -> dict[str, Any]:
        """The same on every rank; JSON-able."""
        return {**self.place, "cursor": self.cursor and self.cursor.to_dict(), "evaluate": self.evaluate}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state()`. Raises InputError where other rows are to be read than then, DamagedError for no such place."""
        self.epoch, self.step, self.evaluate = state["epoch"], state["step"], state["evaluate"]
        self.cursor = Cursor.from_dict(state["cursor"]) if state["cursor"] is not None else None
        self.total_steps = self._last_step()
