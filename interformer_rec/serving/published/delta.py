"""What has changed since a version was exported, or since the delta before. In: a folder or URI; out: checked deltas, oldest first.

    DIR/deltas/ID/delta.json          the state before (version or delta, with its checksum), the number of deltas since the version
                  tables/*.safetensors  rows (n,) int64, ascending, and what the version stores of a row: weight, for int8 scale and bias
                  vocabularies/*.parquet  of growing tables: rows that have another id now, or none (null)
                  dense.safetensors   all dense weights, where one has changed; no optimizer state
                  graphs/*.onnx       where the dense weights have changed and the version has ONNX graphs, which hold their weights
                  golden.jsonl        requests with their scores after this delta
                  manifest.json       written last

Deltas form a chain back to their version. Nothing here is a pickle. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from interformer_rec.data.files.whole import read_whole
from interformer_rec.data.fit import Fitted
from interformer_rec.data.growth.vocabulary import FIRST, VocabularyChange
from interformer_rec.errors import DamagedError, InputError
from interformer_rec.files import conform, json_object, own_name
from interformer_rec.serving.contents import ArtefactJson, Contents, Runtime, Sha256, Size, Weights
from interformer_rec.serving.published.manifest import FOLDERS, WholeFolder, opened
from interformer_rec.serving.published.pointer import CURRENT, DELTAS, Current, NewestDelta, Sequence
from interformer_rec.serving.tables import Form, mapped
from interformer_rec.storage import Storage

FILE = "delta.json"
GOLDEN = "golden.jsonl"
IDS = ("row", "id")  # columns of a changed vocabulary
STORED: dict[Form, dict[str, type]] = {
    "fp32": {"weight": np.float32},
    "fp16": {"weight": np.float16},
    "int8": {"weight": np.uint8, "scale": np.float32, "bias": np.float32},
}


class ChangedRows(ArtefactJson):
    """Rows of one table, tables/NUMBER.safetensors."""

    file: str
    form: Form
    rows: Size  # that have changed
    width: Size  # floats a row


class Before(ArtefactJson):
    """The state that a delta changes: the version itself (no `delta`), or the version with all deltas up to one."""

    version: str
    version_sha256: Sha256
    delta: str | None = None
    delta_sha256: Sha256 | None = None


class Delta(ArtefactJson):
    """delta.json."""

    format: Literal[1] = 1
    id: str
    sequence: Sequence  # how many deltas there are since the version, this one included
    before: Before
    checkpoint: Annotated[str, Field(max_length=4096)]  # of which the state after it is
    weights: Weights  # of the state after it
    tables: dict[str, ChangedRows]  # those without a changed row are left out
    vocabularies: dict[str, str]  # growing table -> its file, where ids have come or gone
    dense: bool  # whether dense.safetensors is there
    graphs: tuple[Runtime, ...]  # that are made anew, because they hold their weights

    @property
    def empty(self) -> bool:
        """Whether nothing has changed."""
        return not (self.tables or self.vocabularies or self.dense)

    @classmethod
    def from_json(cls, content: bytes, source: str) -> Delta:
        """Raises DamagedError with `source`, the file's name."""
        return conform(json_object(content, source), cls, source)

    def to_json(self) -> str:
        """Text of delta.json."""
        return self.model_dump_json(indent=1) + "\n"


@dataclass(frozen=True)
class OpenDelta:
    """A delta on this machine, whole as far as it was checked."""

    said: Delta
    whole: WholeFolder
    _stored: dict[str, tuple[np.ndarray, dict[str, np.ndarray]]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def folder(self) -> Path:
        """Of its files."""
        return self.whole.folder

    def golden(self) -> list[dict[str, Any]]:
        """Requests with their scores after the delta: {"row": {column: value}, "scores": {task: probability}} each."""
        lines = (self.folder / GOLDEN).read_text(encoding="utf-8").splitlines()
        return [json_object(line.encode(), str(self.folder / GOLDEN)) for line in lines]

    def stored(self, table: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """(n,) row numbers, and what is stored of these rows. Raises DamagedError."""
        if table not in self._stored:
            self._stored[table] = self._read(table)
        return self._stored[table]

    def _read(self, table: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        changed = self.said.tables[table]
        path = self.folder / own_name(changed.file, FILE, FOLDERS)
        found = mapped(path)
        rows = found.pop("rows", np.zeros(0))
        wanted = {
            name: ((changed.rows, changed.width) if name == "weight" else (changed.rows,), kind)
            for name, kind in STORED[changed.form].items()
        }
        whole = {name: (one.shape, one.dtype.type) for name, one in found.items()} == wanted
        if not whole or rows.shape != (changed.rows,) or rows.dtype != np.int64 or not _ascending(rows):
            raise DamagedError(f"{str(path)!r} does not hold {changed.rows} rows of a {changed.form} table, in order")
        return rows, found

    def rows(self, table: str) -> tuple[np.ndarray, np.ndarray]:
        """(n,) row numbers and (n, w) float32, as a lookup gives them. Raises DamagedError."""
        rows, found = self.stored(table)
        values = found["weight"].astype(np.float32)
        if "scale" in found:
            values *= found["scale"][:, None]
            values += found["bias"][:, None]
        return rows, values

    def changes(self, fitted: Fitted) -> dict[str, VocabularyChange]:
        """Of the vocabularies of growing tables, which are `fitted` before. Raises DamagedError."""
        found = {}
        for name, file in self.said.vocabularies.items():
            path = self.folder / own_name(file, FILE, FOLDERS)
            try:
                table = read_whole(str(path), IDS)
            except InputError as error:
                raise DamagedError(error) from None
            rows, ids = (table[column].combine_chunks() for column in IDS)
            at = rows.to_numpy(zero_copy_only=False)
            last = FIRST + len(fitted.vocabularies.get(name, ()))
            if not pa.types.is_int64(rows.type) or not len(at) or not _ascending(at) or at[0] < FIRST or at[-1] >= last:
                raise DamagedError(f"{str(path)!r} does not hold rows of a growing table, in order")
            given = ids.is_valid().to_numpy(zero_copy_only=False)
            found[name] = VocabularyChange(ids.drop_null(), at[given], at[~given])
        return found


def chain(place: Storage, now: Current, contents: Contents, since: NewestDelta | None = None) -> list[OpenDelta]:
    """The deltas from delta `since`, where that is on the way, or else from the version, to the state `now`.

    Raises DamagedError where one is missing, damaged, or of another state.
    """
    found: list[OpenDelta] = []
    wanted, named_by = now.delta, f"{CURRENT} of {place.location!r}"
    while wanted is not None and wanted != since:
        one = _opened(place, wanted, named_by)
        before = one.said.before
        if (before.version, before.version_sha256) != (now.version, now.sha256):
            raise DamagedError(f"delta {wanted.id!r} is of version {before.version!r}, not of {now.version!r}")
        _require_fit(one, contents)
        found.insert(0, one)
        named_by, wanted = f"delta {wanted.id!r}", _before(one.said)
    return found


def _before(said: Delta) -> NewestDelta | None:
    """The delta before this one. Raises DamagedError where that cannot be."""
    before = said.before
    if before.delta is None or before.delta_sha256 is None:
        if said.sequence != 1 or before.delta is not None or before.delta_sha256 is not None:
            raise DamagedError(f"delta {said.id!r} is number {said.sequence} and names no delta before it")
        return None
    if said.sequence == 1:
        raise DamagedError(f"delta {said.id!r} is the first one and names {before.delta!r} before it")
    own_name(before.delta, f"delta {said.id!r}")
    return NewestDelta(id=before.delta, sequence=said.sequence - 1, sha256=before.delta_sha256)


def _opened(place: Storage, wanted: NewestDelta, named_by: str) -> OpenDelta:
    there = place.folder(DELTAS).folder(wanted.id)
    missing = f"delta {wanted.id!r} was never finished, or removed; the next full version does not need it"
    whole = opened(there, missing, wanted.sha256, named_by)
    where = str(whole.folder / FILE)
    try:
        said = Delta.from_json((whole.folder / FILE).read_bytes(), where)
    except OSError as error:
        raise DamagedError(f"{where} cannot be read: {error.strerror}") from None
    if (said.id, said.sequence) != (wanted.id, wanted.sequence):
        raise DamagedError(
            f"{where} is of delta {said.id!r}, number {said.sequence}; {named_by} names {wanted.id!r}, number {wanted.sequence}"
        )
    return OpenDelta(said, whole)


def _require_fit(one: OpenDelta, contents: Contents) -> None:
    """Raises DamagedError where the tables and graphs of a delta are not of its version."""
    said = one.said
    wrong = [
        name
        for name, changed in said.tables.items()
        if name not in contents.tables or not _fits(changed, contents, name, one)
    ]
    if wrong or not set(said.graphs) <= set(contents.runtimes):
        what = f"table {wrong[0]!r}" if wrong else f"graphs {', '.join(said.graphs)}"
        raise DamagedError(f"delta {said.id!r} has {what}, which version {contents.version!r} does not have so")


def _fits(changed: ChangedRows, contents: Contents, name: str, one: OpenDelta) -> bool:
    table = contents.tables[name]
    return (changed.form, changed.width) == (table.form, table.width) and int(one.stored(name)[0][-1]) < table.rows


def _ascending(rows: np.ndarray) -> bool:
    return len(rows) == 0 or (int(rows[0]) >= 0 and bool((np.diff(rows) > 0).all()))


def write_vocabularies(folder: Path, before: Fitted, after: Fitted) -> dict[str, str]:
    """The vocabularies that have changed, a file each."""
    found: dict[str, str] = {}
    for name in sorted(after.growing):
        old, new = before.vocabularies[name], after.vocabularies[name]
        rows = changed_ids(old, new)
        if len(rows):
            found[name] = f"vocabularies/{len(found):05d}.parquet"
            (folder / found[name]).parent.mkdir(exist_ok=True)
            columns = {"row": pa.array(rows + FIRST, pa.int64()), "id": new.take(pa.array(rows))}
            pq.write_table(pa.table(columns), folder / found[name], compression="zstd")
    return found


def changed_ids(old: pa.Array, new: pa.Array) -> np.ndarray:
    """Places at which two vocabularies of a table of constant size have different ids, or one has none."""
    if old.type != new.type:  # without an id it has the type of integers
        return np.arange(len(new))
    same = pc.fill_null(pc.equal(old, new), False).to_numpy(zero_copy_only=False)
    both_free = ~(old.is_valid().to_numpy(zero_copy_only=False) | new.is_valid().to_numpy(zero_copy_only=False))
    return np.flatnonzero(~(same | both_free))


def files_of(tables: Mapping[str, object]) -> dict[str, str]:
    """The file of each table's changed rows."""
    return {name: f"tables/{number:05d}.safetensors" for number, name in enumerate(sorted(tables))}
