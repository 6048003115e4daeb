"""One trial, in a process of its own. In: a run config; out: what `interformer train` makes of it, and its evaluations as they come.

The parent is asked after every evaluation whether the trial goes on. A process whose parent is gone saves its run and ends.
"""

import json
import math
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from interformer_rec.checkpoint.evaluated import Score
from interformer_rec.config import run as run_config
from interformer_rec.config.run import HIGHER_IS_BETTER, RunConfig
from interformer_rec.data.files.source import open_source
from interformer_rec.errors import InputError, say
from interformer_rec.training import run
from interformer_rec.training.folder.lock import process_start, whoami
from interformer_rec.training.folder.lock_file import NAME, SILENT_SECONDS, Holder
from interformer_rec.training.folder.run_folder import RunFolder
from interformer_rec.training.loop import Hook
from interformer_rec.training.measure.heap import one_arena
from interformer_rec.training.non_finite_loss import NonFiniteLoss
from interformer_rec.tuning.message import DONE, EVALUATED, FAILED, NO_DATA, PRUNED, REFUSED, STOPPED, Message

AGAIN_SECONDS = 2.0  # between the signals that a process sends itself once its parent is gone
LEAVING_SECONDS = 60.0  # for which a run's last process may take to save it and end


class Trained(NamedTuple):
    """A run that has ended, or why it has no value."""

    failed: str | None
    metrics: dict[str, dict[str, Any]]  # split -> metric -> value
    epoch: int  # of its best checkpoint


class Interrupted(Exception):
    """A signal ended the run; its state is saved."""


class Pruned(Exception):
    """The parent wants no more of this trial."""


class Evaluations(Hook):
    """Reports every evaluation and waits for the answer. Raises Pruned."""

    def __init__(self, connection: Connection, metric: str) -> None:
        self._connection, self._metric = connection, metric

    def evaluated(self, step: int, score: Score) -> None:
        """Only the metric of the study counts: where rows do not define it, training goes by another one."""
        if score.monitor == self._metric and math.isfinite(score.value):
            self._connection.send(Message(EVALUATED, value=score.value, step=step))
            if not self._connection.recv():
                raise Pruned


def train(config: RunConfig, hooks: Sequence[Hook] = ()) -> Trained:
    """Train, or go on with a run that was cut short. Raises what `run.train` raises but NonFiniteLoss; Interrupted."""
    folder = RunFolder(config)
    try:
        code = run.train(config, resume=folder.config.exists(), hooks=hooks)
    except NonFiniteLoss as error:
        return Trained(str(error), {}, 0)
    if code:
        raise Interrupted(f"signal {code - 128}")
    metrics = {
        split: {name: value for name, value in values.items() if name != "calibration_bins"}
        for split, values in json.loads((folder.path / "evaluation.json").read_text(encoding="utf-8")).items()
    }
    metric = f"{config.features.labels[0].name}/{config.training.monitor}"
    if metrics["valid"][metric] is None:
        return Trained(f"{metric} of the validation rows is not defined", {}, 0)
    lines = map(json.loads, (folder.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    evaluations = [line for line in lines if line["split"] == "valid" and line[metric] is not None]
    best = max if HIGHER_IS_BETTER[config.training.monitor] else min
    return Trained(None, metrics, best(evaluations, key=lambda line: line[metric])["epoch"])


def process(text: str, source: str, log: str, connection: Connection, first: bool) -> None:
    """What a trial's process does: the run of this YAML, with its output in the file `log`; the last message says how it ended.

    `first`: this machine has not seen the data yet, so that is looked at before.
    """
    os.setsid()  # Ctrl-C goes to the parent, which then ends this process in order
    with open(log, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    one_arena()
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        ended = _run(run_config.parse_yaml(text, source), connection, first)
    except BaseException as error:  # whatever it is, the study goes on, and the log has the whole of it
        ended = _of_error(error)
        say(traceback.format_exc() if ended.kind == FAILED else f"{ended.kind}: {ended.why}")
    with suppress(BrokenPipeError):  # the parent is gone: this process was ended by that
        connection.send(ended)
    connection.close()


def _run(config: RunConfig, connection: Connection, first: bool) -> Message:
    if first:
        try:
            for path in (config.data.train, config.data.valid):
                open_source(path or "", config.data.max_decoded_bytes)
        except InputError as error:
            return Message(NO_DATA, why=str(error))
    metric = f"{config.features.labels[0].name}/{config.training.monitor}"
    _wait_for_last_process(config.run_dir)
    trained = train(config, [Evaluations(connection, metric)])
    if trained.failed is not None:
        return Message(FAILED, why=trained.failed)
    return Message(DONE, value=trained.metrics["valid"][metric], epoch=trained.epoch)


def _of_error(error: BaseException) -> Message:
    if isinstance(error, Pruned):
        return Message(PRUNED)
    if isinstance(error, InputError):
        return Message(REFUSED, why=str(error))
    if isinstance(error, Interrupted | KeyboardInterrupt | SystemExit | EOFError | BrokenPipeError):
        return Message(STOPPED)
    return Message(FAILED, why=f"{type(error).__name__}: {error}")


def _wait_for_last_process(folder: Path) -> None:
    """The process of a study that was killed saves its run, which takes a moment."""
    try:
        holder = Holder.from_bytes((folder / NAME).read_bytes())
    except FileNotFoundError:
        return
    until = time.monotonic() + LEAVING_SECONDS
    if holder is not None and holder.machine == whoami(SILENT_SECONDS).machine:
        while process_start(holder.pid) == holder.process_start and time.monotonic() < until:
            time.sleep(0.1)


def end_with_parent() -> None:
    """A process whose parent was killed saves its run and ends: training does at the first signal, between its parts nothing listens."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    while True:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(AGAIN_SECONDS)
