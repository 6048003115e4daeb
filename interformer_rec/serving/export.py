"""`interformer export`: a run or a checkpoint comes in; a version of an artefact goes out, once it scores as `interformer predict`.

Nothing is published before that comparison: current.json changes last, and what was written of a version that failed is removed.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from interformer_rec.checkpoint.manifest import Manifest
from interformer_rec.checkpoint.stored import StoredTables
from interformer_rec.config.found import at_home, data_to_evaluate, with_stores
from interformer_rec.config.run import RunConfig
from interformer_rec.data.files.overlap import refuse_written
from interformer_rec.distributed.environment import Environment, process_group
from interformer_rec.errors import InputError
from interformer_rec.metrics.recalibration import recalibrated, scale_and_shift, text_of
from interformer_rec.serving import artefact, write
from interformer_rec.serving.arguments import ExportOptions
from interformer_rec.serving.contents import Contents, Runtime, Weights
from interformer_rec.serving.encode.encoder import Encoder
from interformer_rec.serving.making.compare import Compared, compare, compared, first_rows
from interformer_rec.serving.making.delta import Trained, publish_delta, scorers, unlike, write_delta
from interformer_rec.serving.making.graphs import may_take_over, recipe, take_over
from interformer_rec.serving.making.how import Before, How, before_delta, before_version
from interformer_rec.serving.making.origin import origin
from interformer_rec.serving.making.predicted import predicted
from interformer_rec.serving.published.manifest import declare
from interformer_rec.serving.published.pointer import DELTAS, VERSIONS
from interformer_rec.serving.published.retention import tidy
from interformer_rec.serving.published.state import State
from interformer_rec.serving.rectangle import is_split
from interformer_rec.serving.saving import split_saving
from interformer_rec.serving.scorer import Scorer, probabilities
from interformer_rec.serving.signature import signature_of
from interformer_rec.storage import Storage
from interformer_rec.training.build import eval_loader
from interformer_rec.training.folder.occupied import refuse_occupied
from interformer_rec.training.folder.run_folder import ATTACHED, attached_config, locate, unpack_features
from interformer_rec.training.scoring.trained import fitted_of, recalibration_of


def export(
    path: str, out: str, options: ExportOptions | None = None, data: str | None = None, trust: bool = False
) -> dict[str, Any]:
    """Write a new version of a run's best checkpoint (or the named checkpoint) to `out`, a folder or URI, and make it the current one.

    A delta that cannot be becomes a version with the tables, runtimes and rules of the current one, and it is said why. `data`: rows
    whose scores are compared with predict's; None: the run's. Raises InputError; then current.json is what it was.
    """
    options = options or ExportOptions()
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise InputError("export is the work of one process: start it without torchrun")
    for option, value in (("--out", out), ("--data", data)):
        if value is not None and not value.strip():
            raise InputError(f"{option} is empty: name a folder, a file or a URI")
    place, located = Storage.open(out), locate(path, trust)
    refuse_occupied("--out", place)
    config = _on_this_cpu(with_stores(path, located.read(lambda found: attached_config(found, trust)), trust))
    if options.delta:
        before = before_delta(out, options, config)
    else:
        before = before_version(out, How.new(options, config))
    files = data_to_evaluate(path, config, trust) if data is None else data
    _refuse_among_data(place, config, files)
    with process_group(config.training.device, start_seconds=config.training.start_seconds) as env:
        job = _Job(path, place, config, files, before, env)
        facts = located.read(job.made_of)
        located.warn(env)
    if options.keep is not None and "delta" not in facts and (removed := tidy(out, options.keep)):
        facts["removed"] = ", ".join(removed)
    return facts


@dataclass(frozen=True)
class _Job:
    path: str  # what the user exports
    place: Storage
    config: RunConfig
    files: str  # to compare on
    before: Before
    env: Environment

    def made_of(self, checkpoint: Storage) -> dict[str, Any]:
        """Publish a delta or a version; what is to be said of it. Raises DamagedError where the checkpoint is not whole."""
        fitted = fitted_of(checkpoint)
        assert fitted.meaning is not None
        how, why = self.before.how, self.before.why
        encoder = Encoder(self.config.features, fitted, signature_of(fitted.meaning, *how.keys))
        manifest = Manifest.read(checkpoint)
        stored = StoredTables(manifest)
        with write.timed("rows scored as by predict"):
            rows = first_rows(eval_loader(self.config, self.files, self.env, fitted))
            logits, model = predicted(self.config, self.env, manifest, stored, fitted, [batch for batch, _ in rows])
            lines = recalibration_of(self.config, checkpoint)
            scale = scale_and_shift(lines, tuple(_tasks(self.config)))
            asked = compared(rows, [recalibrated(one, scale) for one in logits], encoder)
        trained = Trained(
            checkpoint.name,
            self.config,
            fitted,
            write.trained_members(model),
            lines,
            stored,
            {name: tensor.detach() for name, tensor in model.state_dict().items()},
            Weights(step=stored.step, full=stored.full),
        )
        name, facts = write.version_name(checkpoint.name), {"checkpoint": checkpoint.location, "data": self.files}
        if self.before.state is not None:
            why = unlike(self.before.state, trained)
            if why is None:
                return {**_delta(self.place, name, self.before.state, trained, asked), **facts}
        facts |= {} if why is None else {"a full version, because": why}
        with _folder(self.place, VERSIONS, name) as folder:
            contents = self._write(folder, name, manifest, trained, model)
            write.write_signature(folder, encoder.signature)
            found, golden = compare(_scorers(folder, contents, self.config), self.config, asked, how.tables)
            facts |= {**found, **_saving(self.config)}
            facts |= {} if lines is None else {"recalibrated on data.valid": text_of(lines)}
            write.write_golden(folder, asked.rows, probabilities(golden), _tasks(self.config))
            write.write_card(folder, self.config, contents, facts | origin(self.path, self.config))
            artefact.publish(self.place, folder, name, declare(folder))
        return {"version": name, "out": self.place.location, "runtimes": ", ".join(how.runtimes) or "eager", **facts}

    def _write(self, folder: Path, name: str, manifest: Manifest, trained: Trained, model: torch.nn.Module) -> Contents:
        """Everything but the texts that need the comparison."""
        how, config, version = self.before.how, self.config, self.before.version
        tables = write.write_tables(folder, trained.tables, how.tables)
        write.write_weights(folder, model)
        with tempfile.TemporaryDirectory() as temporary:
            unpack_features(manifest.storage, Path(temporary) / "features")
            write.write_config(folder, manifest.content(f"{ATTACHED}config.yaml"), Path(temporary) / "features")
        made_of = recipe(config, trained.members)
        if version is not None and may_take_over(version, made_of, how):
            take_over(folder, version, how.runtimes)
        else:
            write.write_graphs(folder, config, model, how.runtimes, how.isa)
        return write.write_contents(
            folder,
            name,
            config,
            tables,
            runtimes=how.runtimes,
            isa=how.isa if "aoti" in how.runtimes else None,
            graphs=made_of if how.runtimes else None,
            members=trained.members,
            recalibration=trained.recalibration,
            weights=trained.weights,
        )


def _delta(place: Storage, name: str, before: State, trained: Trained, compared: Compared) -> dict[str, Any]:
    """Write and publish what has changed; what is to be said of it."""
    config, contents = trained.config, before.version.contents
    facts: dict[str, Any] = {"version": before.now.version, "out": place.location}
    with _folder(place, DELTAS, name) as folder:
        delta = write_delta(folder, name, before, trained)
        said = delta.said
        if said.empty:
            shutil.rmtree(folder)
            return {**facts, "delta": None, "nothing was published": f"nothing has changed since {before.now.state}"}
        facts["changed rows"] = sum(table.rows for table in said.tables.values())
        facts["of rows"] = sum(table.rows for table in contents.tables.values())
        facts["dense weights"] = "changed" if said.dense else "as before"
        threads = torch.get_num_threads()
        found, golden = compare(scorers(before, delta, threads), config, compared, How.of(before.version).tables)
        write.write_golden(folder, compared.rows, probabilities(golden), _tasks(config))
        publish_delta(place, before, delta)
    return {"delta": name, "deltas": said.sequence, **facts, **found}


def _on_this_cpu(config: RunConfig) -> RunConfig:
    """As an artefact answers: float32 on a CPU, whatever the run was trained on."""
    training = config.training.model_copy(update={"device": "cpu", "precision": "fp32"})
    return config.model_copy(update={"training": training})


def _refuse_among_data(place: Storage, config: RunConfig, files: str) -> None:
    """Vocabularies are Parquet files: among a run's data they would be read as rows. Raises InputError."""
    data = at_home(config, "").data
    names = [f"{VERSIONS}/ID/features/{table}.parquet" for table in config.features.tables]
    names += [f"{DELTAS}/ID/vocabularies/00000.parquet"]
    read = {"data.train": data.train, "data.valid": data.valid, "data.test": data.test, "--data": files}
    refuse_written("--out", place, names, read)


def _tasks(config: RunConfig) -> list[str]:
    return [label.name for label in config.features.labels]


def _scorers(folder: Path, contents: Contents, config: RunConfig) -> dict[Runtime, Callable[[], Scorer]]:
    """Of a version that has just been written, for every runtime it has."""
    threads = torch.get_num_threads()
    runtimes: tuple[Runtime, ...] = contents.runtimes or ("eager",)
    return {one: partial(artefact.scorer_of, folder, contents, config, one, threads) for one in runtimes}


@contextmanager
def _folder(place: Storage, kind: str, name: str) -> Iterator[Path]:
    """Where a version or a delta is built: in `place` if that is on this machine. Removed where the block fails."""
    if place.local is None:
        with tempfile.TemporaryDirectory(prefix="interformer-export-") as temporary:
            folder = Path(temporary) / name
            folder.mkdir()
            yield folder
        return
    folder = place.local / kind / name
    try:
        folder.mkdir(parents=True)
        yield folder
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise InputError(f"cannot write {str(folder)!r}: {error.strerror or error}") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _saving(config: RunConfig) -> dict[str, Any]:
    """What model.split would save, where it is off."""
    if is_split(config.model):
        return {}
    saving = split_saving(config.features, config.model)
    return {} if saving is None else {"model.split would save": saving}
