"""A training run from its start to its report. In: a config; out: the run folder's files and an exit code."""

from __future__ import annotations

import platform
import sys
import time
from collections import Counter
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import torch
import torch.distributed as dist

from interformer_rec import __version__, stack
from interformer_rec import config as run_config
from interformer_rec.config import RunConfig
from interformer_rec.data.fit import Fitted, fit
from interformer_rec.data.loader import Loader
from interformer_rec.distributed.environment import Environment, process_group
from interformer_rec.distributed.parallelize import Parallel
from interformer_rec.distributed.restore import load, read_state
from interformer_rec.errors import DamagedError, InputError
from interformer_rec.training.build import build_parallel, eval_loader, train_loader
from interformer_rec.training.evaluation import Evaluation
from interformer_rec.training.evaluation import evaluate as run_evaluation
from interformer_rec.training.measured import FILE as MEASURED
from interformer_rec.training.measured import Recorder
from interformer_rec.training.measured_heap import give_back
from interformer_rec.training.pipeline import Pipeline
from interformer_rec.training.progress import RunLog
from interformer_rec.training.report import write_report
from interformer_rec.training.run_folder import RunFolder, unpack_features
from interformer_rec.training.trainer import Trainer


def train(config: RunConfig, resume: bool = False) -> int:
    """Train a run from its config, test it with its best checkpoint, write its report.

    Returns 0, or 128 + n if signal n ended it (everything is saved; `resume` continues). Raises InputError.
    """
    pa.set_memory_pool(pa.system_memory_pool())  # beside malloc Arrow would keep an idle pool of its own
    with process_group(config.training.device) as env:
        folder = RunFolder(config)
        env.on_main(lambda: folder.claim(resume))
        saved = env.on_main(folder.checkpoints.newest_first) if resume else []
        fitted = env.on_main(lambda: _fit(config, folder, saved))
        loader = train_loader(config, env, fitted)
        valid = eval_loader(config, config.data.valid, env, fitted) if config.data.valid else None
        test = eval_loader(config, config.data.test, env, fitted) if config.data.test else None
        give_back()
        recorder = Recorder(env)
        total_steps = min(config.training.max_steps or sys.maxsize, loader.steps * config.training.epochs)
        parallel = build_parallel(config, env, fitted, total_steps)
        pipeline = Pipeline(parallel, env, config.training.precision, config.seed)
        if env.is_main:
            folder.config.write_text(run_config.to_yaml(config), encoding="utf-8")
            folder.write_json("plan.json", parallel.plan)
            folder.write_json("environment.json", _environment(env, parallel))
        with RunLog(folder.path, enabled=env.is_main, total_steps=total_steps) as log:
            trainer = Trainer(config, env, parallel, pipeline, loader, valid, folder, log, recorder)
            _continue(folder, saved, parallel, env, trainer, log)
            log.total_steps = parallel.optimizer.rate.total_steps = trainer.total_steps
            stopped_by = trainer.fit()
            if not stopped_by:
                _finish(config, env, folder, parallel, pipeline, trainer, test, log)
        loaders = {"train": loader, "valid": valid, "test": test}
        facts = _data_facts(config, fitted, trainer, {name: used for name, used in loaders.items() if used is not None})
        measured = recorder.gather(parallel)
        if env.is_main:
            folder.write_json("data.json", facts)
            folder.write_json(MEASURED, measured)
            report = write_report(folder.path)
            print(f"report: {report}", flush=True)
        return 128 + stopped_by if stopped_by else 0


def _fit(config: RunConfig, folder: RunFolder, saved: list[str]) -> Fitted:
    """Vocabularies and statistics from the training files; a resumed run keeps the ones it started with."""
    if saved and not (folder.features / "fitted.json").exists():  # another machine: the checkpoints are all there is
        unpack_features(folder.checkpoints.storage.folder(saved[0]), folder.features)
    if saved or config.data.train is None:
        return Fitted.load(folder.features)
    fitted = fit(config.features, config.data.train, config.data.workers)
    fitted.save(folder.features)
    return fitted


def _continue(
    folder: RunFolder, saved: list[str], parallel: Parallel, env: Environment, trainer: Trainer, log: RunLog
) -> None:
    """Load the newest of the checkpoints that is whole and name the others; nothing if there are none.

    Raises InputError if there are checkpoints and all of them are damaged.
    """
    damaged = []
    for name in saved:
        checkpoint = folder.checkpoints.storage.folder(name)
        try:
            load(checkpoint, parallel, env)
            trainer.restore(read_state(checkpoint))
        except DamagedError as error:
            log.message(f"damaged checkpoint passed over: {error}")
            damaged.append(str(error))
            continue
        log.message(f"continuing from {checkpoint.location} at step {trainer.position.step}")
        return
    if damaged:
        raise InputError(f"run {str(folder.path)!r} has no checkpoint that is whole: {'; '.join(damaged)}")


def _finish(
    config: RunConfig,
    env: Environment,
    folder: RunFolder,
    parallel: Parallel,
    pipeline: Pipeline,
    trainer: Trainer,
    test: Loader | None,
    log: RunLog,
) -> None:
    """Test once, with the best checkpoint, and write evaluation.json."""
    found: dict[str, Evaluation] = {}
    if trainer.validation.best is not None:
        found["valid"] = trainer.validation.best
    best = env.on_main(folder.checkpoints.best)
    if test is not None and best is not None:
        load(folder.checkpoints.storage.folder(best), parallel, env, weights_only=True)
        found["test"] = run_evaluation(pipeline, test.batches(), config.features, env)
        log.evaluation(
            "test", {"epoch": trainer.position.epoch, "step": trainer.position.step, **found["test"].metrics}
        )
    if env.is_main:
        folder.write_json("evaluation.json", {split: item.to_dict() for split, item in found.items()})


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
        "command": " ".join(sys.argv),
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


def _data_facts(config: RunConfig, fitted: Fitted, trainer: Trainer, loaders: dict[str, Loader]) -> dict[str, Any]:
    """Rows, skipped rows, tables and history lengths, for the report (collective)."""
    facts: dict[str, Any] = {}
    for split, loader in loaders.items():
        skipped: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(skipped, loader.bad_rows)
        bad_rows = dict(sum((Counter(part) for part in skipped), Counter()))
        facts[split] = {"path": getattr(config.data, split), "rows": loader.rows, "bad_rows": bad_rows}
    facts["tables"] = {
        name: {"rows": fitted.table_rows[name], "ids": table.ids} for name, table in config.features.tables.items()
    }
    facts["sequences"] = trainer.lengths.to_dict()
    return facts
