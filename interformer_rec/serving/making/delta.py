"""What has changed between a published state and newly trained weights. In: a State, Trained; out: the files of a delta.

Rows are compared as they are stored: one whose stored bytes are the same is not in the delta, and a delta applied to the state before gives
what a full export of the same weights would, bit for bit.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from interformer_rec.checkpoint import tensor_file
from interformer_rec.checkpoint.tensor_file import Part
from interformer_rec.config.run import RunConfig
from interformer_rec.data.fit import Fitted
from interformer_rec.errors import InputError
from interformer_rec.metrics.recalibration import Lines
from interformer_rec.serving import write
from interformer_rec.serving.artefact import DENSE
from interformer_rec.serving.contents import Runtime, Weights
from interformer_rec.serving.making.changed_rows import Spool, bits, changed_rows
from interformer_rec.serving.making.graphs import renew_onnx
from interformer_rec.serving.published.delta import FILE, ChangedRows, Delta, OpenDelta, files_of, write_vocabularies
from interformer_rec.serving.published.manifest import WRITE_ERRORS, WholeFolder, cannot_write, copy_to, declare
from interformer_rec.serving.published.pointer import DELTAS, WITH_DELTA, Current, NewestDelta, current, point
from interformer_rec.serving.published.state import State, fitted_after, scorer_after
from interformer_rec.serving.runtimes import dense_weights
from interformer_rec.serving.scorer import Scorer
from interformer_rec.storage import Storage


@dataclass(frozen=True)
class Trained:
    """Everything of a checkpoint that answers depend on."""

    checkpoint: str  # its name
    config: RunConfig
    fitted: Fitted
    members: int  # of an ensemble: how many have been trained
    recalibration: Lines | None
    tables: write.TableRows
    dense: Mapping[str, torch.Tensor]
    weights: Weights  # which they are


def unlike(state: State, trained: Trained) -> str | None:
    """Why there can be no delta from `state` to `trained`; None where there can."""
    version, before, after = state.version, state.fitted, trained.fitted
    ours, theirs = version.config, trained.config
    if (ours.name, ours.features, ours.model) != (theirs.name, theirs.features, theirs.model):
        return "its config has another name, other features or another model"
    if before.table_rows != after.table_rows:
        return "its tables have other sizes"
    if version.contents.members != trained.members:
        return f"{version.contents.members} members of its ensemble had been trained, and now {trained.members}"
    if version.contents.recalibration != trained.recalibration:
        return "its scores are recalibrated otherwise"
    if before.moments != after.moments or before.meaning != after.meaning:
        return "its data was fitted otherwise: means, deviations or types of columns differ"
    fixed = [name for name in after.vocabularies if name not in after.growing]
    other = [name for name in fixed if not before.vocabularies[name].equals(after.vocabularies[name])]
    if other:
        return f"the vocabulary of table {other[0]!r} differs, and it does not grow"
    return None


def related(state: State, trained: Trained) -> bool:
    """Whether the state is of an earlier checkpoint that has the same full one behind it as `trained`."""
    before = state.weights
    return before.full == trained.weights.full and before.step <= trained.weights.step


def write_delta(folder: Path, id_: str, state: State, trained: Trained) -> OpenDelta:
    """Everything but golden requests and manifest. Raises OSError."""
    contents = state.version.contents
    tables = _write_rows(folder, state, trained)
    dense = not _same(dense_weights(_dense_folder(state)), trained.dense)
    graphs: tuple[Runtime, ...] = ("onnx",) if dense and "onnx" in contents.runtimes else ()
    if dense:
        parts = {name: Part(tensor.contiguous()) for name, tensor in trained.dense.items()}
        tensor_file.write(Storage.open(folder), DENSE, parts)
    if graphs:
        renew_onnx(folder, state.version, folder)
    said = Delta(
        id=id_,
        sequence=len(state.deltas) + 1,
        before=state.before,
        checkpoint=trained.checkpoint,
        weights=trained.weights,
        tables=tables,
        vocabularies=write_vocabularies(folder, state.fitted, trained.fitted),
        dense=dense,
        graphs=graphs,
    )
    (folder / FILE).write_text(said.to_json(), encoding="utf-8")
    return OpenDelta(said, WholeFolder(folder, ""))


def _write_rows(folder: Path, state: State, trained: Trained) -> dict[str, ChangedRows]:
    """The changed rows of every table that has some."""
    contents, found = state.version.contents, {}
    spools = folder / "spool"
    files = files_of(contents.tables)
    try:
        for number, (name, table) in enumerate(sorted(contents.tables.items())):
            spool = Spool(spools / str(number))
            changed_rows(state, trained.tables, name, related(state, trained), spool)
            if spool.count:
                tensor_file.write(Storage.open(folder), files[name], spool.parts())
                found[name] = ChangedRows(file=files[name], form=table.form, rows=spool.count, width=table.width)
                shutil.rmtree(spools)
    finally:
        shutil.rmtree(spools, ignore_errors=True)
    return found


def scorers(state: State, delta: OpenDelta, threads: int) -> dict[Runtime, Callable[[], Scorer]]:
    """Of the state after `delta`, for every runtime that the version has."""
    version = state.version
    fitted_after(state.fitted, version, [delta])

    def opened(runtime: Runtime) -> Scorer:
        return scorer_after(state.scorer(runtime, threads), version, [delta], runtime)

    return {runtime: lambda runtime=runtime: opened(runtime) for runtime in version.contents.runtimes or ("eager",)}  # type: ignore[misc]


def publish_delta(place: Storage, state: State, delta: OpenDelta) -> None:
    """Declare it and make the state after it the current one. Raises InputError where it cannot be written, or another one was published
    meanwhile."""
    said = delta.said
    try:
        sha256 = declare(delta.folder)
        copy_to(place.folder(DELTAS).folder(said.id), delta.folder)
        if current(state.path) != state.now:
            raise InputError(f"{place.location!r} has another current state than a moment ago: export again")
        newest = NewestDelta(id=said.id, sequence=said.sequence, sha256=sha256)
        version = said.before.version
        point(place, Current(format=WITH_DELTA, version=version, sha256=said.before.version_sha256, delta=newest))
    except WRITE_ERRORS as error:
        raise cannot_write(place, f"delta {said.id!r}", error) from error


def _dense_folder(state: State) -> Path:
    """Where the newest dense weights of a state lie."""
    folders = [delta.folder for delta in state.deltas if delta.said.dense]
    return folders[-1] if folders else state.version.folder


def _same(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> bool:
    return before.keys() == after.keys() and all(
        before[name].shape == tensor.shape
        and before[name].dtype == tensor.dtype
        and bool((bits(before[name].reshape(1, -1).numpy()) == bits(tensor.reshape(1, -1).numpy())).all())
        for name, tensor in after.items()
    )
