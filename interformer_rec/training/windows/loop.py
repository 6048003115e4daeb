"""From window to window. In: a run and the windows of its data; out: each is evaluated on, then the hooks and the trainer have it.

The order of things, on all ranks at the same places:

    window k is trained on     its checkpoint is saved
    end_window(k)              hooks; of a run that was killed before the next window began, once more when it is resumed
    window k+1 is found        rank 0 looks; with training.follow the ranks wait until it is there
    window k+1 is evaluated    by the weights of k; its metrics are added to the checkpoint of k
    begin_window(k+1)          hooks: here vocabularies may admit ids of `window.source`
    window k+1 is trained on   training.epochs times, shuffled in the buffer, as data.train would be

Nothing of a window but its files' names and sizes (cut by time: the time column) is read before it is entered.
"""

import math
import time
from collections.abc import Callable

from interformer_rec.checkpoint.evaluated import Evaluated
from interformer_rec.errors import InputError
from interformer_rec.training.hooks import Hooks
from interformer_rec.training.loop import Run
from interformer_rec.training.pipeline import Pipeline
from interformer_rec.training.scoring.evaluation import Interrupted, evaluate
from interformer_rec.training.stopping import StopAgreement
from interformer_rec.training.windows.report import WindowReport
from interformer_rec.training.windows.rows import WindowRows
from interformer_rec.training.windows.unknown_ids import UnknownIds

LONGEST = 1.0  # seconds between two signs of life, and two looks for a signal


class WindowLoop:
    """What the trainer asks between two epochs."""

    def __init__(self, run: Run, rows: WindowRows, hooks: Hooks, pipeline: Pipeline) -> None:
        self._run, self._rows, self._hooks, self._pipeline = run, rows, hooks, pipeline
        self._begun: str | None = None  # name of the window that the hooks have begun, in this process
        self._said = ""
        self._report = WindowReport(run)

    def enter(self, agreement: StopAgreement) -> int:
        """Where the present window is done, go to the next, evaluate on it and begin it (collective).

        Returns a signal's number to stop, else 0; where no window is left the position stays over. Raises InputError.
        """
        position = self._run.position
        if position.epoch < position.end_epoch:
            return self._begin(agreement)
        self._end()
        if position.stopped_by_steps:
            return 0
        while not self._rows.enter():
            self._say(self._rows.order.waiting)
            if not self._run.config.training.follow:
                return 0
            if signal := wait(self._run, agreement, self._run.config.training.poll_seconds, self._waiting):
                return signal
        return self._begin(agreement)

    def _begin(self, agreement: StopAgreement) -> int:
        window, position = self._rows.present, self._run.position
        if self._begun == window.name:
            return 0
        continued = position.epoch > window.begin_epoch or position.cursor is not None
        if not window.evaluated:
            try:
                self._evaluate(agreement)
            except Interrupted as interruption:
                return interruption.signal
        word = "continues" if continued else "begins"
        self._run.log.message(f"window {window.name!r} {word}: {window.seen.rows:,} rows")
        for hook in self._hooks.all:
            hook.begin_window(self._rows.present, continued)
        self._begun = window.name
        return 0

    def _end(self) -> None:
        window = self._rows.order.present
        if window is None:
            return
        self._hooks.saving.wait()
        for hook in self._hooks.all:
            hook.end_window(window)
        self._report.window_ended()
        self._begun = None

    def _waiting(self) -> None:
        for hook in self._hooks.all:
            hook.waiting()
        self._report.write()

    def _evaluate(self, agreement: StopAgreement) -> None:
        """Score the present window with the weights of the one before, log it, add it to their checkpoint."""
        run, rows = self._run, self._rows
        run.at("evaluating")
        unknown = UnknownIds(run.config.features, run.env.device)
        try:
            features = run.config.features
            found = evaluate(self._pipeline, rows.to_judge(), features, agreement.step, run.at, unknown.add)
        except InputError as error:
            self._hooks.saving.wait()
            raise error.reworded(
                f"window {rows.present.name!r}: {error}. --resume begins with its evaluation"
            ) from error
        rows.evaluated(found.metrics, found.sums)
        record = {**run.position.place, "window": rows.present.name, **found.metrics, **unknown.shares()}
        run.log.window({**record, **rows.totals.metrics()})
        if self._hooks.saving.saved_at == run.position.step:
            self._hooks.saving.conclude(Evaluated(None, {"windows": rows.state()}))

    def _say(self, waiting: str | None) -> None:
        """Why no window is entered, once."""
        present, follow = self._rows.order.present, self._run.config.training.follow
        last = f"after {present.name!r}" if present is not None else "yet"
        text = waiting or f"there is no window {last}"
        if follow:
            text += f": waiting, with a look every {self._run.config.training.poll_seconds:g} s (training.follow)"
        if text != self._said:
            self._run.log.message(text)
        self._said = text


def wait(run: Run, agreement: StopAgreement, seconds: float, meanwhile: Callable[[], None]) -> int:
    """Wait so long, all ranks the same number of turns, and do `meanwhile` in each (collective). Returns the signal to stop for, or 0.

    A rank that is not there any more ends the wait as it ends a step: its connection breaks, or the watchdog misses its beats.
    """
    turn = min(seconds, LONGEST, agreement.PART * agreement.seconds)
    for _ in range(math.ceil(seconds / turn)):
        run.at("waiting for the next window")
        meanwhile()
        time.sleep(turn)
        if signal := agreement.now():
            return signal
    return 0
