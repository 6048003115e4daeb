"""The artefact on disk: versions of an exported model and which of them is current. In: a folder or URI; out: a checked version.

    DIR/current.json                 {"version": ID, ...}, swapped whole
    DIR/versions/ID/signature.json   model.json  config.yaml  features/  tables/*.safetensors  dense.safetensors  golden.jsonl
                    model_card.md
                    graphs/          user.pt2  candidate.pt2 or whole.pt2, and the same as .onnx
                    manifest.json    sizes and checksums of all of these; written last: without it the folder is no version

Nothing here is a pickle, and what the files say is data: a name in them never leads out of the folder.
"""

from __future__ import annotations

import hashlib
import json
import pkgutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from interformer_rec.checkpoint.checked import MANIFEST, PIECE, Checked, Verified, small_file
from interformer_rec.config.found import read_config
from interformer_rec.config.run import RunConfig
from interformer_rec.data.fit import Fitted
from interformer_rec.errors import DamagedError, InputError
from interformer_rec.files import conform, json_object, own_name
from interformer_rec.serving.contents import SUFFIX, Contents, Runtime
from interformer_rec.serving.rectangle import Reads, reads_of
from interformer_rec.serving.scorer import Graph, Scorer
from interformer_rec.serving.session import onnx_graph
from interformer_rec.serving.signature import Signature
from interformer_rec.serving.tables import MappedTable
from interformer_rec.storage import Storage

CURRENT, VERSIONS = "current.json", "versions"
FOLDERS = ("features", "tables", "graphs")  # inside a version
FORMAT = 1  # of current.json and the manifest
SIGNATURE, CONTENTS, CONFIG = "signature.json", "model.json", "config.yaml"
DENSE, GOLDEN, CARD = "dense.safetensors", "golden.jsonl", "model_card.md"
# Named as text and loaded when they are asked for: an artefact with ONNX graphs is served where torch is not installed.
EAGER, COMPILED = (f"interformer_rec.serving.runtimes:{name}" for name in ("eager_graphs", "compiled_graph"))
OUTPUT = {"user": "states", "candidate": "logits", "whole": "logits"}


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Entry(_Strict):
    bytes: Annotated[int, Field(ge=0, le=1 << 60)]
    crc32: list[Annotated[int, Field(ge=0, lt=1 << 32)]]


class _Listed(_Strict):
    format: int
    files: dict[str, _Entry]


class Current(_Strict):
    """current.json: the version in use, and the SHA-256 of its manifest, so that another folder of that name is not taken for it."""

    format: int
    version: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


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
        """The first that the artefact has graphs for; without any the modules themselves."""
        return self.contents.runtimes[0] if self.contents.runtimes else "eager"


def scorer_of(folder: Path, contents: Contents, config: RunConfig, runtime: Runtime, threads: int = 1) -> Scorer:
    """Of the files in `folder`, which have been checked, or have just been written."""
    reads = reads_of(config.features, config.model)
    tables = {
        name: MappedTable(folder / own_name(table.file, CONTENTS, FOLDERS), table.form, table.rows, table.width)
        for name, table in contents.tables.items()
    }
    return Scorer(config.features, reads, tables, _graphs(folder, contents, config, reads, runtime, threads))


def graph_names(split: bool) -> tuple[str, ...]:
    """Of a version's graphs, in the order in which they run."""
    return ("user", "candidate") if split else ("whole",)


def graph_inputs(name: str, reads: Reads) -> tuple[str, ...]:
    """Names of a graph's inputs, in order."""
    return ("states", "owners", *reads.names) if name == "candidate" else reads.names


def _graphs(
    folder: Path, contents: Contents, config: RunConfig, reads: tuple[Reads, ...], runtime: Runtime, threads: int
) -> list[Graph]:
    if runtime == "eager":
        graphs: list[Graph] = pkgutil.resolve_name(EAGER)(folder, config, contents.members)
        return graphs
    if runtime not in contents.runtimes:
        raise InputError(
            f"version {contents.version!r} has no {runtime} graphs, it has {', '.join(contents.runtimes) or 'none'}: export it with "
            f"--runtime {runtime}, or use --runtime eager"
        )
    names = graph_names(contents.split)
    paths = [folder / "graphs" / f"{name}{SUFFIX[runtime]}" for name in names]
    if runtime == "aoti":
        return [pkgutil.resolve_name(COMPILED)(path) for path in paths]
    inputs = [graph_inputs(name, one) for name, one in zip(names, reads, strict=True)]
    return [onnx_graph(path, its, threads) for path, its in zip(paths, inputs, strict=True)]


def entry_of(path: Path) -> dict[str, Any]:
    """Size and checksums of a file on this machine."""

    class _Nowhere:
        def write(self, content: memoryview | bytes, /) -> object:
            return None

    checked = Checked(_Nowhere(), lambda: None)
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            checked.write(piece)
    return checked.entry()


def declare(folder: Path) -> str:
    """Write the manifest of a version that is complete; returns its SHA-256."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    content = {"format": FORMAT, "files": {name: entry_of(folder / name) for name in names if name != MANIFEST}}
    raw = json.dumps(content, indent=1).encode()
    Storage.open(folder).put(MANIFEST, raw)
    return hashlib.sha256(raw).hexdigest()


def publish(place: Storage, folder: Path, version: str, sha256: str) -> None:
    """Make a declared version of this machine the current one of `place`, where it is copied first if it lies elsewhere.

    Raises InputError where it cannot be written.
    """
    try:
        _publish(place, folder, version, sha256)
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot write version {version!r} to {place.location!r}: {reason}; nothing was published"
        ) from error


def _publish(place: Storage, folder: Path, version: str, sha256: str) -> None:
    there = place.folder(VERSIONS).folder(version)
    if there.local is None or there.local.resolve() != folder.resolve():
        listed = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        for name in [*(name for name in listed if name != MANIFEST), MANIFEST]:
            with there.create(name) as sink, (folder / name).open("rb") as file:
                while piece := file.read(PIECE):
                    sink.write(piece)
    content = Current(format=FORMAT, version=version, sha256=sha256)
    place.put(CURRENT, json.dumps(content.model_dump(), indent=1).encode())


def current(path: str) -> Current:
    """What current.json of a folder or URI says. Raises InputError where there is none, DamagedError where it is not one."""
    place = Storage.open(path)
    where = place.folder(CURRENT).location
    if place.size(CURRENT) is None:
        raise InputError(
            f"{path!r} holds no exported model: there is no {CURRENT}. Make one: interformer export RUN --out {path}"
        )
    found = conform(json_object(small_file(place, CURRENT, "nothing was exported"), where), Current, where)
    if found.format != FORMAT:
        raise DamagedError(f"{where} has format {found.format}; this release reads format {FORMAT}")
    own_name(found.version, where)
    return found


def open(path: str, version: str | None = None, checksums: bool = True) -> Version:
    """The current version of a folder or URI, or the named one. Raises InputError, DamagedError where a file is not what was written.

    `checksums`: read every byte; otherwise sizes alone are compared. What lies in a store is copied to this machine, and read in full.
    """
    said = current(path)
    name = own_name(version, "--version") if version is not None else said.version
    there = Storage.open(path).folder(VERSIONS).folder(name)
    where = there.folder(MANIFEST).location
    raw = small_file(there, MANIFEST, f"version {name!r} was never finished, or removed")
    sha256 = hashlib.sha256(raw).hexdigest()
    if version in (None, said.version) and sha256 != said.sha256:
        raise DamagedError(f"{where} is not the one that {CURRENT} of {path!r} names: its checksum differs")
    listed = conform(json_object(raw, where), _Listed, where)
    if listed.format != FORMAT:
        raise DamagedError(f"{where} has format {listed.format}; this release reads format {FORMAT}")
    for file, entry in sorted(listed.files.items()):
        there.refuse_link_out(own_name(file, where, FOLDERS), where)
        _check(there, file, entry.model_dump(), checksums)
    if there.local is not None:
        return _version(there.local, sha256, name)
    kept = tempfile.TemporaryDirectory(prefix="interformer-")
    _copy(there, listed, Path(kept.name))
    return _version(Path(kept.name), sha256, name, kept)


def _check(there: Storage, file: str, entry: dict[str, Any], checksums: bool) -> None:
    found = there.size(file)
    if found != entry["bytes"]:
        what = "is missing" if found is None else f"has {found} bytes, {entry['bytes']} were written"
        raise DamagedError(f"{there.folder(file).location} {what}")
    if len(entry["crc32"]) != -(-entry["bytes"] // PIECE):
        raise DamagedError(f"{there.folder(MANIFEST).location} has {len(entry['crc32'])} checksums for {file}")
    if checksums and there.local is not None:
        Verified(there, file, entry).check()


def _copy(there: Storage, listed: _Listed, folder: Path) -> None:
    """The files of a version in a store; each is compared with its checksums."""
    for file, entry in listed.files.items():
        reader = Verified(there, file, entry.model_dump())
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        with (folder / file).open("wb") as copy:
            for start in range(0, entry.bytes, PIECE):
                copy.write(reader.read(start, min(entry.bytes, start + PIECE)))


def _version(folder: Path, sha256: str, name: str, kept: object = None) -> Version:
    where = str(folder / CONTENTS)
    try:
        contents = Contents.from_json((folder / CONTENTS).read_bytes(), where)
        signature = Signature.from_json((folder / SIGNATURE).read_bytes(), str(folder / SIGNATURE))
        config = read_config((folder / CONFIG).read_bytes(), str(folder / CONFIG))
    except OSError as error:
        raise DamagedError(f"{error.filename!r} cannot be read: {error.strerror}") from None
    signature.check(config.features)
    if contents.version != name or set(contents.tables) != set(config.features.tables):
        raise DamagedError(f"{where} is of version {contents.version!r}, not of {name!r}, or of another config")
    return Version(folder, contents, signature, config, Fitted.load(folder / "features"), sha256, kept)
