"""`interformer tune`. In: a config, a space, a number of trials; out: the trials' runs, and the config that replays the best one."""

import os
import time
from collections.abc import Sequence

import optuna

from interformer_rec.errors import InputError, say
from interformer_rec.redaction import redact
from interformer_rec.text import metric
from interformer_rec.tuning import outputs
from interformer_rec.tuning.arguments import TuneOptions
from interformer_rec.tuning.question import ask
from interformer_rec.tuning.screen import Screen
from interformer_rec.tuning.store import open_store
from interformer_rec.tuning.study import RUN, Study
from interformer_rec.tuning.worker import Worker

WRITE_SECONDS = 20.0  # between two writings of the page while trials go on


def tune(config: str, changes: Sequence[str], options: TuneOptions) -> int:
    """Begin a study, or go on with it as one of its workers, until it has so many trials.

    Returns 0, or 128 + n if signal n ended this worker. Raises InputError; a start that is refused begins no study.
    """
    if options.trials < 1:
        raise InputError(f"--trials {options.trials}: a study has at least one")
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise InputError(
            "a trial trains in one process: start `interformer tune ... --resume` several times on one --storage, not under torchrun"
        )
    question = ask(config, changes, options.space, options.out)
    store, where = open_store(options.storage, question.out)
    _require_begun(question.base.name in optuna.get_all_study_names(store), where, options.resume)
    study = Study(question, store, where, options.prune)
    screen = Screen(question.metric)
    screen.beginning(study, options.trials, where)
    last = 0.0

    def done() -> None:
        nonlocal last
        if time.monotonic() - last > WRITE_SECONDS:
            outputs.write(study)
            last = time.monotonic()

    stopped_by = Worker(study, options.trials, screen, done).work()
    outputs.write(study)
    return _ended(study, stopped_by)


def _require_begun(there: bool, where: str, resume: bool) -> None:
    if there and not resume:
        raise InputError(
            f"there is a study in {where} already: go on with it, or join it as another worker, with --resume; or begin another one with "
            "--out DIR (in a database: --set name=NAME)"
        )


def _ended(study: Study, stopped_by: int) -> int:
    """Say what there is now; the exit code. Raises InputError where no trial has a value."""
    out, best, retried = study.question.out, study.best(), study.retried
    if retried:
        print(f"{retried} trials of workers that were gone went on from their last checkpoints", flush=True)
    if stopped_by:
        say(f"stopped by signal {stopped_by}: the same command with --resume goes on")
        return 128 + stopped_by
    if best is None:
        raise InputError(f"no trial has a value: {redact(str(out / outputs.JSON))!r} says why each ended")
    counts = ", ".join(f"{count} {state}" for state, count in outputs.summary(study)["counts"].items())
    print(f"{counts}. Best: trial {best.user_attrs[RUN]}, {study.question.metric} {metric(best.value)}", flush=True)
    print(f"page: {out / outputs.PAGE}\nreplay: interformer train {out / outputs.BEST}", flush=True)
    return 0
