"""A training run from its start to its report. In: a config; out: the run folder's files and an exit code."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict

import pyarrow as pa

from interformer_rec.config.run import RunConfig
from interformer_rec.distributed.environment import Environment, process_group
from interformer_rec.errors import InputError
from interformer_rec.training.ending import Ending
from interformer_rec.training.folder.lock import ending_signals
from interformer_rec.training.folder.run_folder import RunFolder
from interformer_rec.training.loop import Hook
from interformer_rec.training.start.prepare import prepare, write_start
from interformer_rec.training.start.resume import Resumed, resumed
from interformer_rec.training.start.same_run import require_same, run_facts
from interformer_rec.training.start.warm.source import StartFrom


def train(
    config: RunConfig,
    resume: bool = False,
    source: str | None = None,
    partial: bool = False,
    trust: bool = False,
    hooks: Sequence[Hook] = (),
) -> int:
    """Train a run from its config, test it with its best checkpoint, write its report.

    `source`, `partial`, `trust`: the run or checkpoint that a new run begins with, see StartFrom. `hooks`: the caller's own.
    Returns 0, or 128 + n if signal n ended it (everything is saved; `resume` continues). Raises InputError; a start that is refused
    changes no file of the run.
    """
    if partial and source is None:
        raise InputError(
            "--from-partial says how --from may begin: name a run or checkpoint with --from, or leave it out"
        )
    asked = None if source is None else StartFrom(source, partial, trust)
    pa.set_memory_pool(pa.system_memory_pool())  # beside malloc Arrow would keep an idle pool of its own
    with (
        process_group(config.training.device, start_seconds=config.training.start_seconds) as env,
        ending_signals() if env.is_main else nullcontext(),
    ):
        require_same(env, {**run_facts(config, resume), "--from": asked and asdict(asked)})
        folder = RunFolder(config)
        ours = False
        try:
            env.on_main(lambda: folder.claim(resume))
            ours = True
            before = env.on_main(lambda: resumed(config, folder)) if resume else Resumed(config)
            if before.complete is not None:
                return _nothing_to_do(env, folder, before.complete)
            stopped_by = _train(before, env, folder, resume, asked, hooks)
        finally:
            if ours or folder.locked:  # a signal may come when it is locked and `ours` is not set yet
                folder.release()
        return 128 + stopped_by if stopped_by else 0


def _train(
    before: Resumed, env: Environment, folder: RunFolder, resume: bool, asked: StartFrom | None, hooks: Sequence[Hook]
) -> int:
    """Train in a folder that is locked for this job. Returns the number of the signal that ended it, or 0."""
    config = before.config
    start = prepare(config, env, folder, resume, asked, hooks)
    write_start(config, env, folder, start)
    with start.run.log as log:
        for note in before.notes:
            log.message(note)
        stopped_by = start.trainer.fit()
        ending = Ending(config, env, folder, start)
        if stopped_by:
            ending.stopped()
        else:
            ending.complete()
    if env.is_main:
        print(f"report: {ending.report}", flush=True)
    return stopped_by


def _nothing_to_do(env: Environment, folder: RunFolder, step: int) -> int:
    if env.is_main:
        print(
            f"run {folder.shown()!r} is already complete at step {step}, nothing to do: to train on, raise training.epochs or "
            "training.max_steps; a new experiment needs a new training.out",
            flush=True,
        )
    return 0
