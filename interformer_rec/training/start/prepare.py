"""The start of a training run. In: a config and the run's place; out: everything that trains, built and checked; no file is written.

Whatever refuses a start refuses it here, before the first write (`write_start`): a refused start leaves a run as it was, and a new one
can simply be started again.
"""

from __future__ import annotations

import platform
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.distributed as dist

from interformer_rec import __version__
from interformer_rec.config import run as run_config
from interformer_rec.config.run import RunConfig
from interformer_rec.data.files.overlap import refuse_overlap, refuse_written
from interformer_rec.data.files.source import open_source
from interformer_rec.data.fit import Fitted, fit
from interformer_rec.distributed.environment import Environment
from interformer_rec.distributed.parallelize import Parallel
from interformer_rec.errors import InputError
from interformer_rec.files import write_whole
from interformer_rec.install import stack
from interformer_rec.planning import plan_file
from interformer_rec.training.build import build_parallel, eval_loader, train_loader
from interformer_rec.training.folder.run_folder import RunFolder, unpack_features
from interformer_rec.training.folder.run_log import RunLog
from interformer_rec.training.folder.writing import writing
from interformer_rec.training.hooks import Hooks
from interformer_rec.training.loop import Run
from interformer_rec.training.measure.heap import give_back
from interformer_rec.training.measure.memory import held
from interformer_rec.training.measure.recorder import Recorder
from interformer_rec.training.pipeline import Pipeline
from interformer_rec.training.skipped import SkippedRows
from interformer_rec.training.start.restored import continue_from_newest, kept_features
from interformer_rec.training.start.same_run import plan_facts, require_same
from interformer_rec.training.timeline import Position
from interformer_rec.training.trainer import Trainer
from interformer_rec.training.validation import Validation
from interformer_rec.watchdog.watchdog import Watchdog


@dataclass(frozen=True)
class Start:
    """A run that is ready to train."""

    fitted: Fitted
    data: dict[str, SkippedRows]  # train, and valid and test where the config names them
    run: Run  # the files of its log are not open yet
    parallel: Parallel
    pipeline: Pipeline
    recorder: Recorder
    trainer: Trainer
    resumed: bool  # from a checkpoint
    features_from: (
        str | None
    )  # the checkpoint to copy the vocabularies from: the run folder has not the ones that are used


def prepare(config: RunConfig, env: Environment, folder: RunFolder, resume: bool) -> Start:
    """Check and build everything, load the newest whole checkpoint of a resumed run (collective). Raises InputError."""
    env.on_main(lambda: _refuse_files(config, folder))
    saved = env.on_main(folder.checkpoints.newest_first) if resume else []
    fitted, features_from = env.on_main(lambda: _fit(config, folder, saved))
    loaders = {"train": train_loader(config, env, fitted)}
    for split, path in (("valid", config.data.valid), ("test", config.data.test)):
        if path is not None:
            loaders[split] = eval_loader(config, path, env, fitted)
    require_same(env, plan_facts({f"data.{split}": loader for split, loader in loaders.items()}))
    data = {s: SkippedRows(loader, config.data.max_bad_rows, f"data.{s}", env) for s, loader in loaders.items()}
    position = Position(config.training, loaders["train"])
    give_back()
    before = held(env.device)
    parallel = build_parallel(config, env, fitted, lambda: position.total_steps, loaders["train"].source)
    skipping = config.data.on_bad_row == "skip"
    pipeline = Pipeline(parallel, env, config.training.precision, config.seed, skipping)
    log = RunLog(folder.path, enabled=env.is_main, total_steps=lambda: position.total_steps)
    for note in parallel.notes:
        log.message(note)
    run = Run(config, env, folder, log, position, Watchdog(env, config.training.hang_seconds))
    recorder = Recorder(env, pipeline, before)
    validation = Validation(run, parallel.optimizer.rate, data.get("valid"))
    hooks = Hooks(run, parallel, data["train"], validation, recorder)
    continue_from_newest(saved, run, parallel, hooks.restore)
    trainer = Trainer(run, parallel, pipeline, hooks)
    return Start(fitted, data, run, parallel, pipeline, recorder, trainer, bool(saved), features_from)


def _refuse_files(config: RunConfig, folder: RunFolder) -> None:
    """Before anything is read: rows that would be in two data sets, or files of this run that would be taken for rows."""
    judged = {"data.valid": config.data.valid, "data.test": config.data.test}
    data = {"data.train": config.data.train, **judged}
    for key, place, names in folder.parquet_files(config):
        refuse_written(key, place, names, data)
    refuse_overlap(config.data.train, judged)


def write_start(config: RunConfig, env: Environment, folder: RunFolder, start: Start) -> None:
    """The run's first files, once every rank is ready (collective)."""
    dist.barrier(device_ids=[env.device.index] if env.device.type == "cuda" else None)
    env.on_main(lambda: _write_files(config, env, folder, start))
    folder.require(env)


def _write_files(config: RunConfig, env: Environment, folder: RunFolder, start: Start) -> None:
    with writing(folder.path):
        if start.features_from is not None:
            start.run.log.message(
                f"vocabularies in {folder.shown('features')!r} are taken from checkpoint {start.features_from}"
            )
            unpack_features(folder.checkpoints.storage.folder(start.features_from), folder.features)
        elif not start.resumed:
            start.fitted.save(folder.features)
        write_whole(folder.config, run_config.to_yaml(config))
        folder.write_json("plan.json", plan_file.of_run(config, env, start.parallel))
        folder.write_json("environment.json", _environment(env, start.parallel))
    folder.send()


def _fit(config: RunConfig, folder: RunFolder, saved: list[str]) -> tuple[Fitted, str | None]:
    """Vocabularies and statistics from the training files; a resumed run keeps the ones it started with (restored.py)."""
    if saved:
        return kept_features(folder, saved)
    if config.data.train is None:
        raise InputError("data.train is not set: name the training files in the config, or with --set data.train=PATH")
    source = open_source(config.data.train, config.data.max_decoded_bytes)
    return fit(config.features, source, config.data.workers), None


def _environment(env: Environment, parallel: Parallel) -> dict[str, Any]:
    """Versions, machine and size of the job, for the report."""
    facts = asdict(stack.read())
    versions = {name: facts[name] for name in ("torch", "torchrec", "fbgemm_cpu", "fbgemm_cuda") if facts[name]}
    return {
        "interformer_rec": __version__,
        "python": platform.python_version(),
        **versions,
        "machine": platform.platform(),
        "device": torch.cuda.get_device_name(env.device) if env.device.type == "cuda" else platform.machine(),
        "ranks": env.world_size,
        "threads_per_rank": torch.get_num_threads(),
        "dense_parameters": sum(p.numel() for p in parallel.optimizer.dense_parameters),
        "command": shlex.join(sys.argv),
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }
