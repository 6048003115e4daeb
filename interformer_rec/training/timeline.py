"""Where a run stands and when something is due. In: training options, the loader's steps; out: the ends of segments, epochs and the run.

An epoch is cut into segments, which end where an evaluation is due. All ranks take the same steps (the loader's plan says how many), so
no end needs a message.
"""

from __future__ import annotations

from typing import Any

from interformer_rec.config.run import TrainingConfig
from interformer_rec.data.epoch_plan import Cursor
from interformer_rec.data.loader import Loader


def is_over(options: TrainingConfig, epoch: int, step: int) -> bool:
    """Whether `epochs` or `max_steps` end a run there."""
    return epoch >= options.epochs or (options.max_steps is not None and step >= options.max_steps)


class Position:
    """The step, the epoch and the place inside it; saved with every checkpoint."""

    def __init__(self, options: TrainingConfig, loader: Loader) -> None:
        self._options, self._loader = options, loader
        self.epoch = self.step = 0
        self.cursor: Cursor | None = None  # None: an epoch begins
        self.evaluate = False  # an evaluation is due here: not begun, or ended by a signal, an error or a kill
        self.total_steps = self._last_step()  # of the run

    def _last_step(self) -> int:
        """From where it stands: a run that changed its number of ranks has steps of two sizes."""
        steps = self.step + self.steps_left + self._loader.steps * (self._options.epochs - self.epoch - 1)
        return min(self._options.max_steps or steps, steps)

    @property
    def place(self) -> dict[str, int]:
        """For a record of the log."""
        return {"epoch": self.epoch, "step": self.step}

    @property
    def steps_left(self) -> int:
        """Of this epoch."""
        return self._loader.steps if self.cursor is None else self._loader.steps_left(self.cursor)

    @property
    def over(self) -> bool:
        """All epochs, or max_steps, are done."""
        return is_over(self._options, self.epoch, self.step)

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
