"""The start of a training run. In: a config and the run's place; out: everything that trains, built and checked; no file is written.

Whatever refuses a start refuses it here, before the first write (`write_start`): a refused start leaves a run as it was, and a new one
can simply be started again.
"""

import platform
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.distributed as dist

from interformer_rec import __version__
from interformer_rec.config import run as run_config
from interformer_rec.config.run import RunConfig
from interformer_rec.data.event_store.joined import joined, open_rows
from interformer_rec.data.files.overlap import refuse_overlap, refuse_within_windows, refuse_written
from interformer_rec.data.files.source import Source
from interformer_rec.data.fit import Fitted, fit
from interformer_rec.data.loader import Loader
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
from interformer_rec.training.loop import Hook, Run
from interformer_rec.training.measure.heap import give_back
from interformer_rec.training.measure.memory import held
from interformer_rec.training.measure.recorder import Recorder
from interformer_rec.training.pipeline import Pipeline
from interformer_rec.training.skipped import SkippedRows
from interformer_rec.training.start.restored import continue_from_newest, kept_features
from interformer_rec.training.start.same_run import plan_facts, require_same
from interformer_rec.training.start.warm.report import Report
from interformer_rec.training.start.warm.source import WARM_START, StartFrom, WarmSource, require_source
from interformer_rec.training.timeline import Position
from interformer_rec.training.trainer import Trainer
from interformer_rec.training.validation import Validation
from interformer_rec.training.windows.loop import WindowLoop
from interformer_rec.training.windows.order import Order
from interformer_rec.training.windows.rows import WindowRows
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
    # the checkpoint to copy the vocabularies from: the run folder has not the ones that are used
    features_from: str | None
    begun: Report | None  # with another run's weights (`--from`)


def prepare(
    config: RunConfig,
    env: Environment,
    folder: RunFolder,
    resume: bool,
    source: StartFrom | None = None,
    more: Sequence[Hook] = (),
) -> Start:
    """Check and build everything, load the newest whole checkpoint of a resumed run, or `source` of a new one (collective).

    `more`: hooks beside the run's own.

    Raises InputError.
    """
    env.on_main(lambda: _refuse_files(config, folder))
    saved = env.on_main(folder.checkpoints.newest_first) if resume else []
    env.on_main(lambda: require_source(folder, saved, source))
    warm = WarmSource.open(source, config, env) if source is not None and not saved else None
    log = RunLog(folder.path, enabled=env.is_main, total_steps=lambda: position.total_steps)
    poll_seconds = config.training.poll_seconds if config.training.follow else None
    order = Order(config.data, env, log.message, poll_seconds) if config.data.windows is not None else None
    first = joined(order.first(), config.data, config.features) if order is not None and not saved else None
    fitted, features_from = env.on_main(lambda: _fit(config, folder, saved, first, warm))
    fitted = warm.with_moments(fitted) if warm is not None else fitted
    loaders = {"train": train_loader(config, env, fitted)} if order is None else {}
    for split, path in (("valid", config.data.valid), ("test", config.data.test)):
        if path is not None:
            loaders[split] = eval_loader(config, path, env, fitted)
    require_same(env, plan_facts({f"data.{split}": loader for split, loader in loaders.items()}))
    data = {s: SkippedRows(loader, config.data.max_bad_rows, f"data.{s}", env) for s, loader in loaders.items()}
    train = loaders.get("train")
    if train is None:
        data = {"train": SkippedRows(None, config.data.max_bad_rows, "data.windows", env), **data}
    events, said = epochs_with_events(config, env, train) if train is not None else (0, None)
    position = Position(config.training, train, range(events, config.data.pretraining_epochs))
    give_back()
    before = held(env.device)
    parallel = build_parallel(config, env, fitted, lambda: position.total_steps, train.source if train else first)
    skipping = config.data.on_bad_row == "skip"
    pipeline = Pipeline(parallel, env, config.training.precision, config.seed, skipping)
    for note in (*parallel.notes, *([said] if said else [])):
        log.message(note)
    run = Run(config, env, folder, log, position, Watchdog(env, config.training.hang_seconds))
    recorder = Recorder(env, pipeline, before)
    validation = Validation(run, parallel.optimizer.rate, data.get("valid"), recorder.count_evaluation)
    rows = WindowRows(config, env, order, fitted, data["train"], position) if order is not None else None
    hooks = Hooks(run, parallel, data["train"], validation, recorder, rows, more)
    continued = continue_from_newest(saved, run, parallel, hooks.restore)
    if continued is not None and hooks.growing is not None:  # the folder may have those of a later window
        features_from = continued
    begun = warm.fill(config, fitted, parallel, env) if warm is not None else None
    if begun is not None:
        log.message(begun.text())
    enter = [WindowLoop(run, rows, hooks, pipeline).enter] if rows is not None else []
    trainer = Trainer(run, parallel, pipeline, hooks, *enter)
    return Start(fitted, data, run, parallel, pipeline, recorder, trainer, bool(saved), features_from, begun)


def _refuse_files(config: RunConfig, folder: RunFolder) -> None:
    """Before anything is read: rows that would be in two data sets, or files of this run that would be taken for rows."""
    judged = {"data.valid": config.data.valid, "data.test": config.data.test}
    key, path = config.data.to_train
    stores = config.data.events.stores if config.data.events is not None else {}
    data = {key: path, **judged, **{f"data.events.stores.{name}": store for name, store in stores.items()}}
    for written, place, names in folder.parquet_files(config):
        refuse_written(written, place, names, data)
    if config.data.windows is not None:
        refuse_within_windows(config.data.windows.path, judged)
    else:
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
        if start.begun is not None:
            folder.write_json(WARM_START, start.begun.to_dict())
    folder.send()


def _fit(
    config: RunConfig, folder: RunFolder, saved: list[str], first: Source | None, warm: WarmSource | None
) -> tuple[Fitted, str | None]:
    """Vocabularies and statistics from the training files (`first`, with windows); a resumed run keeps those that it has (restored.py).

    Growing tables begin with the ids of `warm`."""
    if saved:
        return kept_features(folder, saved)
    if config.data.train is None and first is None:
        raise InputError("data.train is not set: name the training files in the config, or with --set data.train=PATH")
    source = first or open_rows(config.data.train or "", config.data, config.features)
    begin = warm.growing(config.features) if warm is not None else {}
    return fit(config.features, source, config.data.workers, first is None, begin), None


def _environment(env: Environment, parallel: Parallel) -> dict[str, Any]:
    """Versions, machine and size of the job, for the report."""
    facts = asdict(stack.installed())
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


def epochs_with_events(config: RunConfig, env: Environment, loader: Loader) -> tuple[int, str | None]:
    """Of data.history_pretraining.epochs, the number that have an event, and a message if that is fewer (collective).

    An epoch draws as many events as there are rows, and each event once, so they run out: an epoch without any would train on nothing.
    Decodes this rank's shuffle buffers until one has events for all epochs: the first, unless events are scarce. Later epochs make other
    buffers of the rows, so where buffers are small this is an estimate; an epoch that turns out to be empty is an error at its end.
    Raises InputError where there is no event at all.
    """
    options = config.data.history_pretraining
    if options is None:
        return 0, None
    found: dict[int, tuple[int, int]] = {}
    enough = False
    for buffer, (events, rows) in loader.pretraining_events():
        found[buffer] = (events, rows)
        if enough := events > (options.epochs - 1) * rows:
            break
    ranks: list[tuple[bool, dict[int, tuple[int, int]]]] = [(enough, found)] * env.world_size
    dist.all_gather_object(ranks, (enough, found))
    if any(one for one, _ in ranks):
        return options.epochs, None
    merged = {buffer: counts for _, of_rank in ranks for buffer, counts in of_rank.items()}
    events, rows = (sum(counts[at] for counts in merged.values()) for at in (0, 1))
    if not events:
        raise InputError(
            f"data.history_pretraining: the histories {options.history!r} of data.train hold no event that can be drawn: each is a row of "
            "its user, or stands in its history more than once without times that say what came of it. Leave data.history_pretraining out"
        )
    whole = max(-(-one // max(1, of)) for one, of in merged.values())
    left = f"epoch {whole} is" if whole + 1 == options.epochs else f"epochs {whole} to {options.epochs - 1} are"
    return whole, (
        f"history pre-training: {events:,} events in {options.history!r} can be drawn, {events / max(1, rows):.2f} epochs of {rows:,} "
        f"rows; {left} not run (data.history_pretraining.epochs: {options.epochs})"
    )
