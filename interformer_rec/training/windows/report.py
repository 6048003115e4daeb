"""The report of a run that goes from window to window. In: what has ended; out: report.html, as often as it is cheap.

A report is made of the whole log, so one after each window would cost ever more over weeks. It is written when so much time has passed that
writing it takes SHARE of it at most, and by the end of the run in any case (training/ending.py).
"""

import time

from interformer_rec.training.folder.writing import writing
from interformer_rec.training.loop import Run
from interformer_rec.training.report.page import write_report

SHARE = 0.02  # of the time


class WindowReport:
    """Methods are collective."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._due, self._next = False, 0.0  # what is not in it yet, and when it may be written

    def window_ended(self) -> None:
        """There is more to report."""
        self._due = True
        self.write()

    def write(self) -> None:
        """Where something is due, and it is time."""
        if self._due:
            self._due = self._run.env.on_main(lambda: not self._written())

    def _written(self) -> bool:
        """On rank 0."""
        began = time.monotonic()
        if began < self._next:
            return False
        folder = self._run.folder
        with writing(folder.path):
            write_report(folder.path)
        folder.send()
        ended = time.monotonic()
        self._next = ended + (ended - began) / SHARE
        return True
