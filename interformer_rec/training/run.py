"""A training run from its start to its report. In: a config; out: the run folder's files and an exit code."""

from __future__ import annotations

from contextlib import nullcontext

import pyarrow as pa

from interformer_rec.config.run import RunConfig
from interformer_rec.distributed.environment import Environment, process_group
from interformer_rec.training.ending import Ending
from interformer_rec.training.folder.lock import ending_signals
from interformer_rec.training.folder.run_folder import RunFolder
from interformer_rec.training.start.prepare import prepare, write_start
from interformer_rec.training.start.resume import Resumed, resumed
from interformer_rec.training.start.same_run import require_same, run_facts


def train(config: RunConfig, resume: bool = False) -> int:
    """Train a run from its config, test it with its best checkpoint, write its report.

    Returns 0, or 128 + n if signal n ended it (everything is saved; `resume` continues). Raises InputError; a start that is refused
    changes no file of the run.
    """
    pa.set_memory_pool(pa.system_memory_pool())  # beside malloc Arrow would keep an idle pool of its own
    with (
        process_group(config.training.device, start_seconds=config.training.start_seconds) as env,
        ending_signals() if env.is_main else nullcontext(),
    ):
        require_same(env, run_facts(config, resume))
        folder = RunFolder(config)
        env.on_main(lambda: folder.claim(resume))
        try:
            before = env.on_main(lambda: resumed(config, folder)) if resume else Resumed(config)
            if before.complete is not None:
                return _nothing_to_do(env, folder, before.complete)
            stopped_by = _train(before.config, env, folder, resume, before.notes)
        finally:
            folder.release()
        return 128 + stopped_by if stopped_by else 0


def _train(config: RunConfig, env: Environment, folder: RunFolder, resume: bool, notes: tuple[str, ...]) -> int:
    """Train in a folder that is locked for this job. Returns the number of the signal that ended it, or 0."""
    start = prepare(config, env, folder, resume)
    write_start(config, env, folder, start)
    with start.run.log as log:
        for note in notes:
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
