"""What a run publishes while it trains. In: checkpoints that are whole; out: versions and deltas for servers, made beside training.

Rank 0 has a process of its own export them (exporter.py): it compares what it publishes with predict's scores, and neither its memory nor
its end is training's. While one publication is at work the next checkpoint waits; of several the newest is taken. A publication that fails
is named, and the next one holds what it would have held. One that a kill cut short is made again: `end_window` comes again.
"""

import time
from typing import Any, NamedTuple

from interformer_rec.checkpoint.checked import MANIFEST
from interformer_rec.config.run import RunConfig
from interformer_rec.config.windows import PublishConfig
from interformer_rec.data.files.source import Source
from interformer_rec.training.loop import Hook, Run, StepInfo
from interformer_rec.training.windows.exporter import Exporter
from interformer_rec.training.windows.order import Present

TURN = 0.2  # seconds between two looks at a publication, once training is over


class _Publication(NamedTuple):
    step: int
    began: float


class Publishing(Hook):
    """Of a run with `publish`. Rank 0 acts; the others have nothing to do."""

    def __init__(self, run: Run, options: PublishConfig) -> None:
        self._run, self._options = run, options
        self._exporter = Exporter()
        self._present: _Publication | None = None
        self._due: int | None = None  # step whose checkpoint comes next, perhaps once it is whole
        self._data = _rows_of(run.config, None)

    def step(self, info: StepInfo) -> None:
        """Note what is due, and what is done."""
        every = self._options.every
        if every != "window" and info.step % every == 0:
            self._due = info.step
        if self._due == info.step or info.step % self._run.config.training.log_every_steps == 0:
            self._poll()

    def begin_window(self, window: Present, continued: bool) -> None:
        """Say what is done."""
        self._poll()

    def end_window(self, window: Present) -> None:
        """Its checkpoint is whole."""
        if self._options.every == "window":
            self._due, self._data = self._run.position.step, _rows_of(self._run.config, window.source)
        self._poll()

    def waiting(self) -> None:
        """A window that ended while a publication was at work has its turn, though no other window comes."""
        self._poll()

    def end_run(self, stopped: bool) -> None:
        """Training is over: what is due is published. After a signal a publication is ended; `--resume` makes it again."""
        while not stopped and self._run.env.on_main(self._goes_on):  # the ranks wait together, and the watchdog sees it
            self._run.at("publishing")
            time.sleep(TURN)
        self._exporter.stop()

    def _goes_on(self) -> bool:
        self._poll()
        return self._present is not None  # where there is none, what is due has no checkpoint and will have none

    def _poll(self) -> None:
        if not self._run.env.is_main:
            self._due = None
            return
        if self._present is not None and (said := self._exporter.answer()) is not None:
            present, self._present = self._present, None
            self._conclude(present, said)
        if self._present is None and self._due is not None and self._is_whole(self._due):
            self._present, self._due = self._begin(self._due), None

    def _is_whole(self, step: int) -> bool:
        return self._run.folder.checkpoints.folder(step).size(MANIFEST) is not None

    def _begin(self, step: int) -> _Publication:
        options = self._options
        checkpoint = self._run.folder.checkpoints.folder(step)
        self._exporter.ask(
            {
                "path": str(checkpoint.local or checkpoint.location),
                "out": options.to,
                "options": {
                    "tables": options.tables,
                    "runtime": options.runtime,
                    "delta": True,
                    "full_every": options.full_every,
                    "keep": options.keep,
                },
                "data": options.data or self._data,
            }
        )
        return _Publication(step, time.perf_counter())

    def _conclude(self, done: _Publication, said: dict[str, Any]) -> None:
        """Say what was published, or why nothing was."""
        place = {"epoch": self._run.position.epoch, "step": done.step}
        seconds = time.perf_counter() - done.began
        if "failed" in said:
            self._run.log.message(
                f"warning: step {done.step} was not published: {said['failed']}; the next publication holds it"
            )
            self._run.log.published({**place, "seconds": seconds, "failed": 1})
            return
        facts: dict[str, Any] = said["done"]
        rows = facts.get("changed rows")
        record = {**place, "seconds": seconds, "failed": 0, "deltas": facts.get("deltas", 0)}
        self._run.log.published(record if rows is None else {**record, "changed_rows": rows})
        if facts.get("delta") is not None:
            text = f"delta {facts['delta']} to version {facts['version']}: {rows:,} of {facts['of rows']:,} rows"
        elif "nothing was published" in facts:
            text = facts["nothing was published"]
        else:
            text = f"version {facts['version']}"
        self._run.log.message(f"published of step {done.step}, in {seconds:.1f} s: {text}")


def _rows_of(config: RunConfig, window: Source | None) -> str:
    """Where rows with labels are: a file of the window, where nothing in the names of its folders is a column."""
    if window is not None and not any(window.keys) and "://" not in window.path and window.files:
        return window.files[0]
    windows = config.data.windows.path if config.data.windows is not None else None
    found = (windows, config.data.valid, config.data.test, config.data.train)
    return next(path for path in found if path is not None)
