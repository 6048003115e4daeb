"""The artefact on disk: versions of an exported model and which of them is current. In: a folder or URI; out: a checked version.

    DIR/current.json                 {"version": ID, ...}, swapped whole (published/pointer.py)
    DIR/deltas/ID/                   what has changed since a version (published/delta.py)
    DIR/versions/ID/signature.json   model.json  config.yaml  features/  tables/*.safetensors  dense.safetensors  golden.jsonl
                    model_card.md
                    graphs/          user.pt2  candidate.pt2 or whole.pt2, and the same as .onnx; they have the weights of
                                     dense.safetensors: .pt2 when it is loaded, .onnx as written from .plain.onnx
                    manifest.json    sizes and checksums of all of these; written last: without it the folder is no version

Nothing here is a pickle, and what the files say is data: a name in them never leads out of the folder.
"""

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interformer_rec.config.found import read_config
from interformer_rec.config.run import RunConfig
from interformer_rec.data.fit import Fitted
from interformer_rec.errors import DamagedError, InputError
from interformer_rec.files import json_object, own_name
from interformer_rec.install import graphs
from interformer_rec.metrics.recalibration import scale_and_shift
from interformer_rec.serving.contents import SUFFIX, Contents, Runtime, StoredTable
from interformer_rec.serving.published.manifest import (
    FOLDERS,
    WRITE_ERRORS,
    WholeFolder,
    cannot_write,
    copy_to,
    opened,
)
from interformer_rec.serving.published.pointer import CURRENT, VERSIONS, WHOLE, Current, current, point
from interformer_rec.serving.rectangle import Reads, reads_of
from interformer_rec.serving.scorer import Graph, Scorer
from interformer_rec.serving.session import onnx_graph
from interformer_rec.serving.signature import Signature
from interformer_rec.serving.tables import MappedTable, TableFile
from interformer_rec.storage import Storage

SIGNATURE, CONTENTS, CONFIG = "signature.json", "model.json", "config.yaml"
DENSE, GOLDEN, CARD = "dense.safetensors", "golden.jsonl", "model_card.md"
# Named as text and loaded when they are asked for: an artefact with ONNX graphs is served where torch is not installed.
EAGER, COMPILED = (f"interformer_rec.serving.runtimes:{name}" for name in ("eager_graphs", "compiled_graph"))
OUTPUT = {"user": "states", "candidate": "logits", "whole": "logits"}


@dataclass(frozen=True)
class Version:
    """One version on this machine, whole as far as it was checked."""

    folder: Path
    contents: Contents
    signature: Signature  # of requests and answers
    config: RunConfig
    fitted: Fitted
    sha256: str  # of its manifest
    kept: object = None  # a temporary folder that goes with the version

    @property
    def name(self) -> str:
        """ID."""
        return self.contents.version

    def golden(self) -> list[dict[str, Any]]:
        """Requests with their scores: {"row": {column: value}, "scores": {task: probability}} each."""
        lines = (self.folder / GOLDEN).read_text(encoding="utf-8").splitlines()
        return [json_object(line.encode(), str(self.folder / GOLDEN)) for line in lines]

    def card(self) -> str:
        """The model card, Markdown."""
        return (self.folder / CARD).read_text(encoding="utf-8")

    def scorer(self, runtime: Runtime | None = None, threads: int = 1) -> Scorer:
        """Ready to answer; `runtime`: another one than the artefact's first. Raises InputError where its graphs are not there."""
        return scorer_of(self.folder, self.contents, self.config, runtime or self.preferred, threads)

    @property
    def preferred(self) -> Runtime:
        """The first that the artefact has graphs for and that can run here; without any graphs the modules themselves."""
        there: tuple[Runtime, ...] = self.contents.runtimes or ("eager",)
        return next((one for one in there if one == "onnx" or graphs.torch_is_here()), there[0])


def scorer_of(folder: Path, contents: Contents, config: RunConfig, runtime: Runtime, threads: int = 1) -> Scorer:
    """Of the files in `folder`, which have been checked, or have just been written."""
    reads = reads_of(config.features, config.model)
    graphs = graphs_of(folder, contents, config, runtime, threads)
    lines = scale_and_shift(contents.recalibration, tuple(label.name for label in config.features.labels))
    return Scorer(config.features, reads, tables_of(folder, contents.tables), graphs, lines)


def tables_of(folder: Path, stored: Mapping[str, StoredTable]) -> dict[str, MappedTable]:
    """By name. Raises DamagedError where a file does not hold what model.json says of it."""
    rows: dict[str, int] = {}
    for one in stored.values():
        rows[one.file] = max(one.first + one.rows, rows.get(one.file, 0))
    files: dict[str, TableFile] = {}
    for one in stored.values():
        if one.file not in files:
            path = folder / own_name(one.file, CONTENTS, FOLDERS)
            files[one.file] = TableFile(path, one.form, rows[one.file], one.width)
        if (one.form, one.width) != (files[one.file].form, files[one.file].width):
            raise DamagedError(f"{str(folder / CONTENTS)!r} has tables of several forms or widths in {one.file!r:.80}")
    return {name: MappedTable(files[one.file], one.first, one.rows) for name, one in stored.items()}


def graph_names(split: bool) -> tuple[str, ...]:
    """Of a version's graphs, in the order in which they run."""
    return ("user", "candidate") if split else ("whole",)


def graph_inputs(name: str, reads: Reads) -> tuple[str, ...]:
    """Names of a graph's inputs, in order."""
    return ("states", "owners", *reads.names) if name == "candidate" else reads.names


def graphs_of(
    folder: Path, contents: Contents, config: RunConfig, runtime: Runtime, threads: int = 1, renewed: Path | None = None
) -> list[Graph]:
    """In the order in which they run; `renewed`: the folder of a delta whose dense weights they have (not for compiled ones)."""
    if runtime != "onnx" and not graphs.torch_is_here():
        raise InputError(
            f"the {runtime} graphs of version {contents.version!r} need torch, which is not installed: install it, or export the model "
            "with --runtime onnx"
        )
    if runtime == "eager":
        modules: list[Graph] = pkgutil.resolve_name(EAGER)(renewed or folder, config, contents.members)
        return modules
    if runtime not in contents.runtimes:
        raise InputError(
            f"version {contents.version!r} has no {runtime} graphs, it has {', '.join(contents.runtimes) or 'none'}: export it with "
            f"--runtime {runtime}, or use --runtime eager"
        )
    names = graph_names(contents.split)
    paths = [(renewed or folder) / "graphs" / f"{name}{SUFFIX[runtime]}" for name in names]
    if runtime == "aoti":
        return [pkgutil.resolve_name(COMPILED)(path, folder) for path in paths]
    inputs = [graph_inputs(name, one) for name, one in zip(names, reads_of(config.features, config.model), strict=True)]
    return [onnx_graph(path, its, threads) for path, its in zip(paths, inputs, strict=True)]


def publish(place: Storage, folder: Path, version: str, sha256: str) -> None:
    """Make a declared version of this machine the current one of `place`, where it is copied first if it lies elsewhere.

    Raises InputError where it cannot be written.
    """
    try:
        copy_to(place.folder(VERSIONS).folder(version), folder)
        point(place, Current(format=WHOLE, version=version, sha256=sha256))
    except WRITE_ERRORS as error:
        raise cannot_write(place, f"version {version!r}", error) from error


def open(path: str, version: str | None = None, checksums: bool | str = True) -> Version:
    """The current version of a folder or URI, or the named one. Raises InputError, DamagedError where a file is not what was written.

    `checksums`: read every byte, or those of the files whose names begin so; of others sizes alone are compared. What lies in a store is
    copied to this machine, and read in full.
    """
    said = current(path)
    name = own_name(version, "--version") if version is not None else said.version
    there = Storage.open(path).folder(VERSIONS).folder(name)
    sha256 = said.sha256 if name == said.version else None
    missing = f"version {name!r} was never finished, or removed"
    return _version(opened(there, missing, sha256, f"{CURRENT} of {path!r}", checksums), name)


def _version(whole: WholeFolder, name: str) -> Version:
    folder, where = whole.folder, str(whole.folder / CONTENTS)
    try:
        contents = Contents.from_json((folder / CONTENTS).read_bytes(), where)
        signature = Signature.from_json((folder / SIGNATURE).read_bytes(), str(folder / SIGNATURE))
        config = read_config((folder / CONFIG).read_bytes(), str(folder / CONFIG))
    except OSError as error:
        raise DamagedError(f"{error.filename!r} cannot be read: {error.strerror}") from None
    signature.check(config.features)
    if contents.version != name or set(contents.tables) != set(config.features.tables):
        raise DamagedError(f"{where} is of version {contents.version!r}, not of {name!r}, or of another config")
    return Version(folder, contents, signature, config, Fitted.load(folder / "features"), whole.sha256, whole.kept)
