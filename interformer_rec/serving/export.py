"""`interformer export`: a run or a checkpoint comes in; a version of an artefact goes out, once it scores as `interformer predict`.

Nothing is published before that comparison: current.json changes last, and what was written of a version that failed is removed.
"""

from __future__ import annotations

import itertools
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from sklearn.metrics import roc_auc_score

from interformer_rec.batch import Batch
from interformer_rec.checkpoint.manifest import Manifest
from interformer_rec.config.found import data_to_evaluate
from interformer_rec.config.run import RunConfig
from interformer_rec.data.fit import Fitted
from interformer_rec.data.loader import Loader
from interformer_rec.distributed.environment import process_group
from interformer_rec.distributed.lookup.tables import local_shards
from interformer_rec.errors import InputError
from interformer_rec.install import graphs
from interformer_rec.model.task import CTRTask
from interformer_rec.serving import artefact, write
from interformer_rec.serving.contents import RUNTIMES, Contents, Isa, Runtime
from interformer_rec.serving.encode.encoder import Encoder
from interformer_rec.serving.encode.stated import stated
from interformer_rec.serving.rectangle import is_split, reads_of
from interformer_rec.serving.rows_of_batch import inputs_of, part_of
from interformer_rec.serving.runtimes import refuse
from interformer_rec.serving.saving import split_saving
from interformer_rec.serving.scorer import Scorer, probabilities
from interformer_rec.serving.signature import signature_of
from interformer_rec.serving.tables import Form
from interformer_rec.storage import Storage
from interformer_rec.training.folder.located import Located
from interformer_rec.training.folder.run_folder import ATTACHED, attached_config, locate, unpack_features
from interformer_rec.training.pipeline import Pipeline
from interformer_rec.training.scoring.trained import fitted_of, restore

# |logit of the artefact - logit of predict|, at most; AUC moves by far less (docs/guides/serving.md)
BOUNDS: dict[Form, float] = {"fp32": 1e-5, "fp16": 1e-2, "int8": 1e-1}
ROWS = 4096  # that are compared
CHUNK = 128  # of them at once
GOLDEN_ROWS = 32


@dataclass(frozen=True)
class Compared:
    """Rows of the run's data with the scores of predict."""

    encoder: Encoder  # of requests
    rows: list[dict[str, Any]]  # the golden ones, as requests state them
    golden: np.ndarray  # their places among all
    logits: np.ndarray  # (N, tasks)
    labels: np.ndarray  # (N, tasks)
    weights: np.ndarray  # (N,)
    batches: list[Batch]


def export(
    path: str,
    out: str,
    tables: Form = "fp32",
    runtime: str = "auto",
    isa: Isa = "x86-64-v3",
    data: str | None = None,
    trust: bool = False,
) -> dict[str, Any]:
    """Write a new version of a run's best checkpoint (or the named checkpoint) to `out`, a folder or URI, and make it the current one.

    Raises InputError; then current.json is what it was.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise InputError("export is the work of one process: start it without torchrun")
    for option, value in (("--out", out), ("--data", data)):
        if value is not None and not value.strip():
            raise InputError(f"{option} is empty: name a folder, a file or a URI")
    place, located = Storage.open(out), locate(path, trust)
    config = _on_this_cpu(located.read(lambda found: attached_config(found, trust)))
    runtimes = _runtimes(runtime, config)
    files = data_to_evaluate(path, config, trust) if data is None else data
    with process_group(config.training.device, start_seconds=config.training.start_seconds) as env:
        loader, pipeline = restore(config, env, located, files)
        compared = _scored(pipeline, loader, _encoder(config, fitted_of(located.checkpoint)))
        name = write.version_name(located.checkpoint.name)
        with _folder(place, name) as folder:
            contents = _write(folder, name, config, located, pipeline, tables, runtimes, _of_this_machine(isa))
            found, golden = _compare(folder, contents, config, compared, tables)
            facts = {"checkpoint": located.checkpoint.location, "data": files, **found, **_saving(config)}
            tasks = [label.name for label in config.features.labels]
            write.write_golden(folder, compared.rows, probabilities(golden), tasks)
            write.write_card(folder, config, contents, facts)
            artefact.publish(place, folder, name, artefact.declare(folder))
    return {"version": name, "out": place.location, "runtimes": ", ".join(runtimes) or "eager", **facts}


def _on_this_cpu(config: RunConfig) -> RunConfig:
    """As an artefact answers: float32 on a CPU, whatever the run was trained on."""
    training = config.training.model_copy(update={"device": "cpu", "precision": "fp32"})
    return config.model_copy(update={"training": training})


def _of_this_machine(isa: Isa) -> Isa:
    """x86-64-v3 is of x86 alone: on another kind of processor its own instructions are compiled for."""
    return isa if platform.machine().lower() in ("x86_64", "amd64") else "native"


def _runtimes(runtime: str, config: RunConfig) -> tuple[Runtime, ...]:
    """Those that graphs are made for; the modules themselves need none."""
    if runtime == "eager":
        return ()
    if runtime == "aoti" and graphs.compiler() is None:
        raise InputError(
            f"--runtime aoti needs a C++ compiler ({', '.join(graphs.COMPILERS)}), and none is on PATH: install one, or use onnx"
        )
    missing = graphs.missing_for_onnx()
    if runtime == "onnx" and missing:
        raise InputError(
            f"--runtime onnx needs the packages {', '.join(missing)}, which are not installed: pip install 'interformer-rec[serve]'"
        )
    refuse(reads_of(config.features, config.model), config.model.kind)
    chosen = graphs.automatic() if runtime == "auto" else (runtime,)
    return tuple(one for one in RUNTIMES if one in chosen)


def _encoder(config: RunConfig, fitted: Fitted) -> Encoder:
    assert fitted.meaning is not None
    return Encoder(config.features, fitted, signature_of(fitted.meaning))


def _scored(pipeline: Pipeline, loader: Loader, encoder: Encoder) -> Compared:
    """The first ROWS rows with what predict's path says of them."""
    logits, labels, weights, batches, tables, total = [], [], [], [], [], 0
    stream = itertools.takewhile(lambda _: total < ROWS, loader.tables())
    for step in pipeline.run(stream, train=False):
        if not step.batch.rows:
            continue
        total += step.batch.rows
        logits.append(step.logits.numpy())
        labels.append(step.batch.labels.numpy())
        weights.append(step.batch.weights.numpy())
        batches.append(step.batch)
        tables.append(step.cursor.table.filter(pa.array(step.cursor.good)))
    if not total:
        raise InputError("the files to compare on have no row that can be scored: name others with --data PATH")
    every = pa.concat_tables(tables)
    golden = np.unique(np.linspace(0, total - 1, min(GOLDEN_ROWS, total)).astype(int))
    rows = stated(every.take(pa.array(golden)), encoder.types)
    return Compared(
        encoder, rows, golden, np.concatenate(logits), np.concatenate(labels), np.concatenate(weights), batches
    )


@contextmanager
def _folder(place: Storage, name: str) -> Iterator[Path]:
    """Where a version is built: in `place` if that is on this machine. Removed where the block fails."""
    if place.local is None:
        with tempfile.TemporaryDirectory(prefix="interformer-export-") as temporary:
            yield Path(temporary) / name
        return
    folder = place.local / artefact.VERSIONS / name
    try:
        folder.mkdir(parents=True)
        yield folder
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise InputError(f"cannot write {str(folder)!r}: {error.strerror or error}") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _write(
    folder: Path,
    name: str,
    config: RunConfig,
    located: Located,
    pipeline: Pipeline,
    form: Form,
    runtimes: tuple[Runtime, ...],
    isa: Isa,
) -> Contents:
    """Everything but the texts that need the comparison."""
    folder.mkdir(parents=True, exist_ok=True)
    task = next(module for module in pipeline.model.modules() if isinstance(module, CTRTask))
    model = task.model.eval()
    tables = write.write_tables(folder, local_shards(pipeline.model), form)
    write.write_weights(folder, model)
    with tempfile.TemporaryDirectory() as temporary:
        unpack_features(located.checkpoint, Path(temporary) / "features")
        content = Manifest.read(located.checkpoint).content(f"{ATTACHED}config.yaml")
        write.write_config(folder, content, Path(temporary) / "features")
    write.write_graphs(folder, config, model, runtimes, isa)
    return write.write_contents(
        folder,
        name,
        config,
        fitted_of(located.checkpoint),
        tables,
        runtimes=runtimes,
        isa=isa if "aoti" in runtimes else None,
        members=write.trained_members(model),
    )


def _compare(
    folder: Path, contents: Contents, config: RunConfig, compared: Compared, form: Form
) -> tuple[dict[str, Any], np.ndarray]:
    """Largest difference, of rows and of golden requests, and AUC's change over all runtimes; the golden requests' logits by the preferred
    runtime. Raises InputError above the bound."""
    answers: list[np.ndarray] = []
    facts: dict[str, Any] = {"rows compared": len(compared.logits), "bound on a logit's difference": BOUNDS[form]}
    for runtime in contents.runtimes or ("eager",):
        scorer = artefact.scorer_of(folder, contents, config, runtime, threads=torch.get_num_threads())
        logits = _logits(scorer, config, compared)
        answers.append(scorer(compared.encoder.score(compared.rows)))
        apart = (logits - compared.logits, answers[-1] - compared.logits[compared.golden])
        difference = float(max(np.abs(one).max() for one in apart))
        facts[f"{runtime}: largest logit difference"] = difference
        facts |= {f"{runtime}: change of AUC, {task}": value for task, value in _auc_change(config, compared, logits)}
        if not difference <= BOUNDS[form]:
            raise InputError(
                f"the exported model ({runtime}, {form} tables) differs from interformer predict by {difference:.2e} in a logit, over "
                f"{len(logits)} rows; at most {BOUNDS[form]:.0e} may be. Nothing was published. Export with --tables fp32 or another "
                "--runtime, and report this with the run's config.yaml"
            )
    return facts, answers[0]


def _logits(scorer: Scorer, config: RunConfig, compared: Compared) -> np.ndarray:
    parts = []
    for batch in compared.batches:
        inputs = inputs_of(batch, config.features)
        parts += [scorer(part_of(inputs, start, start + CHUNK)) for start in range(0, batch.rows, CHUNK)]
    return np.concatenate(parts)


def _auc_change(config: RunConfig, compared: Compared, logits: np.ndarray) -> Iterator[tuple[str, float]]:
    for at, label in enumerate(config.features.labels):
        hard = compared.labels[:, at] > 0.5
        if hard.any() and not hard.all():
            before, after = (
                roc_auc_score(hard, found[:, at], sample_weight=compared.weights) for found in (compared.logits, logits)
            )
            yield label.name, float(after - before)


def _saving(config: RunConfig) -> dict[str, Any]:
    """What model.split would save, where it is off."""
    if is_split(config.model):
        return {}
    saving = split_saving(config.features, config.model)
    return {} if saving is None else {"model.split would save": saving}
