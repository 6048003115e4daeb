"""What a run says while it runs. In: records of steps and evaluations; out: a progress bar (or plain lines where nobody
watches a terminal), metrics.jsonl and TensorBoard files in the run folder.

metrics.jsonl has one JSON object a line, in the order of events, each with `split` (train, valid, test or checkpoint), `epoch` and
`step`. A number that is not defined is null. A resumed run appends: `read_log` drops what was done over.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

from interformer_rec.files import finite
from interformer_rec.redaction import redact
from interformer_rec.text import clock
from interformer_rec.training.folder.writing import CannotWrite, writing

LOG_FILE = "metrics.jsonl"
PLAIN_SECONDS = 10.0  # between two lines of steps where there is no terminal
MOST_UNKNOWN = 3  # columns with unknown ids that a line names
ETA_SECONDS = 120.0  # the speed behind the bar's ETA is that of the last two minutes
PLACE = {"split": str, "epoch": int, "step": int}  # where a record stands; the rest is measured


class RunLog:
    """Rank 0's voice; on the other ranks (`enabled` false) every call does nothing.

    A context manager: entering it opens the files, leaving it, by an error too, ends the bar and closes them. `message` works before,
    too. The screen is stderr, so that stdout stays free for results.
    """

    def __init__(
        self, run_dir: Path, enabled: bool, total_steps: Callable[[], int], console: Console | None = None
    ) -> None:
        self.enabled = enabled
        self.total_steps = total_steps
        if not enabled:
            return
        self.run_dir = run_dir
        self._console = console or Console(stderr=True)
        self._bar = _progress(self._console) if self._console.is_terminal else None
        self._task = self._bar.add_task("starting", total=None, said="") if self._bar else None
        self._first: tuple[int, float] | None = None  # step and time of the first record, for the plain lines' ETA
        self._next_line = 0.0

    def __enter__(self) -> RunLog:
        if not self.enabled:
            return self
        from torch.utils.tensorboard import SummaryWriter  # on rank 0 only: it is slow to import

        with writing(self.run_dir):
            self.run_dir.mkdir(parents=True, exist_ok=True)
            self._file = os.fdopen(_open_whole(self.run_dir / LOG_FILE), "ab", buffering=0)
            self._board = SummaryWriter(str(self.run_dir / "tensorboard"))
        self._excepthook, threading.excepthook = threading.excepthook, self._thread_ended
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.enabled:
            return
        if self._bar:
            self._bar.stop()
        self._file.close()
        try:
            with writing(self.run_dir / "tensorboard"):
                self._board.close()
        except CannotWrite:
            if error is None:
                raise
        finally:
            threading.excepthook = self._excepthook

    def _thread_ended(self, args: threading.ExceptHookArgs) -> None:
        """TensorBoard's writer hands its error to the next call, which reports it: no traceback here."""
        if not type(args.thread).__module__.startswith("tensorboard."):
            self._excepthook(args)

    def train(self, record: dict[str, Any]) -> None:
        """A log interval: epoch, step (of the run, the interval's last), rows, seconds, loss, samples_per_second..."""
        if not self.enabled:
            return
        self._write("train", record)
        step, now = int(record["step"]), time.monotonic()
        first_step, first_time = self._first = self._first or (step, now)
        said = _said(record)
        if self._bar and self._task is not None:
            if self._bar.tasks[0].total is None:  # begins here: a resumed run's earlier steps cost no time in this one
                self._bar.reset(self._task, total=self.total_steps(), completed=step)
            self._bar.update(self._task, completed=step, description=f"epoch {record['epoch']}", said=said)
        elif now >= self._next_line or step >= self.total_steps():
            self._next_line = now + PLAIN_SECONDS
            pace = (now - first_time) / (step - first_step) if step > first_step else math.nan
            eta = f"  ETA {clock(pace * (self.total_steps() - step))}" if math.isfinite(pace) else ""
            self._say(f"epoch {record['epoch']}  step {step}/{self.total_steps()}  {said}{eta}")

    def evaluation(self, split: str, record: dict[str, Any]) -> None:
        """Metrics of a data set (`split` is valid or test): epoch, step, rows, seconds, LABEL/auc..."""
        if not self.enabled:
            return
        self._write(split, record)
        metrics = [f"{name} {_number(value)}" for name, value in record.items() if "/" in name]
        rows = f"  ({int(record['rows']):,} rows)" if "rows" in record else ""
        self._say(f"{split}  step {record['step']}  {'  '.join(metrics)}{rows}")

    def window(self, record: dict[str, Any]) -> None:
        """Metrics of a window, before it is trained on, and over all windows: epoch, step, window, rows, seconds, LABEL/auc,
        COLUMN/unknown, all/LABEL/auc..."""
        if not self.enabled:
            return
        self._write("window", record)
        metrics = [name for name in record if "/" in name and not name.startswith("all/")]
        shares = {name.removesuffix("/unknown"): record[name] for name in metrics if name.endswith("/unknown")}
        most = sorted((name for name, share in shares.items() if share > 0), key=lambda name: -shares[name])[
            :MOST_UNKNOWN
        ]
        said = [f"{name} {_number(record[name])}" for name in metrics if not name.endswith("/unknown")]
        said += ["unknown ids: " + ", ".join(f"{name} {shares[name]:.1%}" for name in most)] if most else []
        self._say(
            f"window {record['window']!r}  step {record['step']}  {'  '.join(said)}  ({int(record['rows']):,} rows)"
        )

    def published(self, record: dict[str, Any]) -> None:
        """What servers got: epoch, step, seconds, failed, deltas, changed_rows."""
        if self.enabled:
            self._write("publish", record)

    def saved(self, record: dict[str, Any]) -> None:
        """A checkpoint: epoch, step, bytes, stall_seconds, write_seconds, host_bytes, incremental, asynchronous."""
        if self.enabled:
            self._write("checkpoint", record)

    def growth(self, record: dict[str, Any]) -> None:
        """Growing tables at a window's start: epoch, step, seconds, TABLE/admitted, TABLE/freed..."""
        if self.enabled:
            self._write("growth", record)

    def message(self, text: str) -> None:
        """A line for the screen only."""
        if self.enabled:
            self._say(text)

    def _write(self, split: str, record: dict[str, Any]) -> None:
        place = {"split": split, "epoch": record["epoch"], "step": record["step"]}
        values = {name: finite(value) for name, value in record.items() if name not in place}
        line = json.dumps({**place, **values}, allow_nan=False)
        rest = line.encode() + b"\n"
        with writing(self.run_dir / LOG_FILE):  # unbuffered, in one call: whatever ends us, the line is there or not
            while rest:  # a disk that is getting full takes a part and then none
                rest = rest[self._file.write(rest) :]
        with writing(self.run_dir / "tensorboard"):
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self._board.add_scalar(f"{split}/{name}", value, int(place["step"]))
            self._board.flush()

    def _say(self, text: str) -> None:
        self._console.print(redact(text), markup=False, highlight=False, soft_wrap=True)


def read_log(run_dir: Path) -> list[dict[str, Any]]:
    """The records of metrics.jsonl, in order of steps; [] without the file. Of two of one place the later holds.

    Where training went on from an earlier step, what had been done after it is dropped: with another number of ranks its
    steps lie elsewhere in the epoch. A line that is no JSON object (a killed run's last) is left out.
    """
    try:
        lines = (run_dir / LOG_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    furthest = -1  # the last step trained
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and all(isinstance(record.get(name), kind) for name, kind in PLACE.items()):
            if record["split"] == "train":
                if record["step"] <= furthest:
                    found = {place: kept for place, kept in found.items() if kept["step"] < record["step"]}
                furthest = record["step"]
            found[tuple(record[name] for name in PLACE)] = record
    return sorted(found.values(), key=lambda record: record["step"])


def _open_whole(path: Path) -> int:
    """Open for appending; if a kill left half a line, end it first, so that the next record starts its own."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    size = os.fstat(descriptor).st_size
    if size:
        os.lseek(descriptor, size - 1, os.SEEK_SET)
        if os.read(descriptor, 1) != b"\n":
            os.write(descriptor, b"\n")
    return descriptor


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None, table_column=Column(min_width=10)),
        MofNCompleteColumn(),
        TextColumn("{task.fields[said]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=console,
        expand=True,
        speed_estimate_period=ETA_SECONDS,
    )


def _said(record: dict[str, Any]) -> str:
    """Loss, NE and speed, as far as they are known."""
    parts = [f"{name} {_number(record[name])}" for name in ("loss", "ne") if name in record]
    if "samples_per_second" in record:
        parts.append(f"{record['samples_per_second']:,.0f} samples/s")
    return "  ".join(parts)


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) and math.isfinite(value) else "undefined"
