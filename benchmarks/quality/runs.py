"""One training as `interformer train` does it. In: a RunConfig; out: a run folder with result.json, and scores.parquet once tested.

    OUT/runs/SYSTEM/trial-003/                  a trial of the search: result.json has its validation metrics
    OUT/runs/SYSTEM/seed-0-1a2b3c4d/            a final run, named by its seed and a digest of its config

A finished run is never run again, an interrupted one continues from its last checkpoint. Runs happen in worker processes.
"""

import contextlib
import hashlib
import json
import multiprocessing
import shutil
import signal
import threading
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from interformer_rec.config import run as run_config
from interformer_rec.config.run import HIGHER_IS_BETTER, RunConfig
from interformer_rec.errors import InputError
from interformer_rec.files import finite
from interformer_rec.training import run
from interformer_rec.training.folder.run_folder import RunFolder
from interformer_rec.training.non_finite_loss import NonFiniteLoss
from interformer_rec.training.scoring import trained
from interformer_rec.tuning.trial import end_with_parent

RESULT, SCORES, LOG = "result.json", "scores.parquet", "log.txt"
T = TypeVar("T")
Call = tuple[Callable[..., Any], tuple[Any, ...]]  # a module-level function and what it is called with
Procedure = Generator[Call, Any, T]  # asks for one call after the other, then returns


class Interrupted(Exception):
    """A signal ended the run; its state is saved."""


def digest(config: RunConfig) -> str:
    """8 hex digits of what a run is; where its files and its folder lie is no part of that."""
    tree = config.model_dump(mode="json")
    tree["training"].pop("out")
    for split in ("train", "valid", "test"):
        tree["data"].pop(split)
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:8]


def finished(config: RunConfig) -> dict[str, Any] | None:
    """The result of a run that is done, else None. Raises InputError where another config's run is in its place."""
    folder = config.run_dir
    saved = folder / "config.yaml"
    if saved.exists() and saved.read_text(encoding="utf-8") != run_config.to_yaml(config):
        raise InputError(
            f"{str(folder)!r} holds a run of another recipe, data cut or code version: choose another --out, or delete it"
        )
    path = folder / RESULT
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def train(text: str) -> dict[str, Any]:
    """In a worker: train the run of this YAML, test it if it names data.test, keep what the study needs.

    Out: `valid` and `test` metrics, `epoch` and `seconds`; or `failed`, the reason, where the loss diverged.
    """
    config = run_config.parse_yaml(text, "the study's run config")
    if (result := finished(config)) is not None:
        return result
    folder, began = RunFolder(config), time.perf_counter()
    folder.path.mkdir(parents=True, exist_ok=True)
    with (
        (folder.path / LOG).open("a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        result = _train(config, folder)
    result["seconds"] = time.perf_counter() - began
    folder.write_json(RESULT, result)
    if config.data.test is None:  # of a trial only its numbers are wanted
        shutil.rmtree(folder.path / "checkpoints", ignore_errors=True)
    return finite(result)


def _train(config: RunConfig, folder: RunFolder) -> dict[str, Any]:
    try:
        code = run.train(config, resume=folder.config.exists())
    except NonFiniteLoss as error:
        return {"failed": str(error)}
    if code:
        raise Interrupted(f"signal {code - 128}")
    result: dict[str, Any] = {}
    for split, metrics in json.loads((folder.path / "evaluation.json").read_text(encoding="utf-8")).items():
        result[split] = {name: value for name, value in metrics.items() if name != "calibration_bins"}
    monitored = f"{config.features.labels[0].name}/{config.training.monitor}"
    if result["valid"][monitored] is None:
        return {"failed": f"{monitored} of the validation rows is not defined"}
    lines = map(json.loads, (folder.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    evaluations = [line for line in lines if line["split"] == "valid"]
    result["epoch"] = (max if HIGHER_IS_BETTER[config.training.monitor] else min)(
        (line for line in evaluations if line[monitored] is not None), key=lambda line: line[monitored]
    )["epoch"]
    if config.data.test is not None:
        _keep_scores(config, folder.path)
    return result


def _keep_scores(config: RunConfig, folder: Path) -> None:
    """Score the test rows as `interformer predict` does; keep user, label and score, for the paired tests."""
    everything = folder / "predictions.parquet"
    everything.unlink(missing_ok=True)
    assert config.data.test is not None
    trained.predict(str(folder), config.data.test, str(everything))
    label, group = config.features.labels[0], config.features.group
    names = {"label": label.column, "score": f"score_{label.name}", **({"user": group} if group else {})}
    table = pq.read_table(everything, columns=list(names.values()))
    kept = pa.table({name: table[column] for name, column in names.items()})
    pq.write_table(kept, folder / SCORES, compression="zstd")
    everything.unlink()


@contextlib.contextmanager
def worker_pool(workers: int, threads: int) -> Generator[ProcessPoolExecutor]:
    """Processes that train, each on `threads` threads, forked from one that has loaded torch.

    Leaving by an error cancels what has not started.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(threads,)) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _start_worker(threads: int) -> None:
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # training listens to it, and the parent ends an idle worker
    threading.Thread(target=end_with_parent, daemon=True).start()


def drive(pool: ProcessPoolExecutor, procedures: Mapping[str, Procedure[T]]) -> dict[str, T]:
    """Run all procedures to their end, the calls of different ones side by side; what each returned, by name.

    Raises what a call raised, BrokenProcessPool as InputError.
    """
    returned: dict[str, T] = {}
    waiting: dict[Future[Any], str] = {}

    def advance(name: str, value: Any) -> None:
        try:
            function, arguments = procedures[name].send(value)
        except StopIteration as end:
            returned[name] = end.value
        else:
            waiting[pool.submit(function, *arguments)] = name

    for name in procedures:
        advance(name, None)
    while waiting:
        done, _ = wait(waiting, return_when=FIRST_COMPLETED)
        for future in done:
            name = waiting.pop(future)
            try:
                result = future.result()
            except BrokenProcessPool:
                raise InputError(
                    "a worker process died (out of memory?): run the same command again, perhaps with --workers 1"
                ) from None
            advance(name, result)
    return returned
