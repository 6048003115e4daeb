"""A checkpoint's way back. In: a checkpoint of any plan and world size, a Parallel; out: its tables, state and dense part filled.

Every piece that is read is compared with its checksum, so damage is found before it is trusted and nothing is read twice.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import torch
import torch.distributed as dist
from pydantic import BaseModel, ConfigDict, Field

from interformer_rec.checkpoint.evaluated import Evaluated
from interformer_rec.checkpoint.manifest import Manifest
from interformer_rec.checkpoint.tensor_file import TensorFile
from interformer_rec.distributed.environment import Environment
from interformer_rec.distributed.lookup.tables import Shard
from interformer_rec.distributed.parallelize import Parallel
from interformer_rec.distributed.state import dense_parameters, local_state
from interformer_rec.errors import DamagedError, InputError
from interformer_rec.files import conform, json_object
from interformer_rec.storage import Storage

Count = Annotated[int, Field(ge=0, lt=1 << 53)]


def read_state(folder: Storage) -> dict[str, Any]:
    """The JSON part of a checkpoint, with what its evaluation changed. Raises DamagedError."""
    manifest = Manifest.read(folder)
    state = state_of(manifest)
    try:
        evaluated = Evaluated.read(manifest)
    except DamagedError:  # then it was not evaluated yet
        evaluated = None
    return state if evaluated is None else {**state, **evaluated.state}


class _Kept(BaseModel):
    """The part of state.json that `load` uses; the trainer has more there."""

    model_config = ConfigDict(strict=True)

    tables: dict[str, Annotated[list[Count], Field(min_length=2, max_length=2)]]
    optimizer_steps: Count
    averaged_steps: Count
    world_size: Annotated[int, Field(ge=1, le=1 << 20)]
    members_before: Count
    step: Count = 0
    epoch: Count = 0
    cursor: dict[str, Any] | None = None


def state_of(manifest: Manifest) -> dict[str, Any]:
    """state.json, its part that `load` uses checked. Raises DamagedError."""
    where = manifest.storage.folder("state.json").location
    state = json_object(manifest.content("state.json"), where)
    conform(state, _Kept, where)
    return state


def load(folder: Storage, parallel: Parallel, env: Environment, weights_only: bool = False) -> None:
    """Fill tables, dense part and (unless `weights_only`) optimizer state, for the plan at hand (collective).

    `weights_only` is for scoring: the dense weights are the checkpoint's moving average where it has one. To train on, they are the raw
    ones, and the average goes on; one that this run keeps and the checkpoint lacks begins at the loaded weights, the other way round it
    is ignored.

    Raises on all ranks DamagedError where a file is not what was written (then nothing in `parallel` is to be trusted until
    another load), InputError where the checkpoint belongs to another model: it names the table or parameter and both shapes.
    """
    on_all_ranks(env, lambda: _load(folder, parallel, weights_only))


def on_all_ranks(env: Environment, work: Callable[[], None]) -> None:
    """Do it on every rank, and raise on all what any of them met (collective): DamagedError, or InputError where one is not of damage."""
    problem: InputError | None = None
    try:
        work()
    except InputError as error:
        problem = error
    gathered: list[Any] = [None] * env.world_size
    mine = (isinstance(problem, DamagedError), f"rank {env.rank}: {problem}") if problem else None
    dist.all_gather_object(gathered, mine)
    found = [item for item in gathered if item is not None]
    if found:
        kind = DamagedError if all(damaged for damaged, _ in found) else InputError
        sentences = dict.fromkeys(text.partition(": ")[2] for _, text in found)  # ranks meet the same damage
        raise kind("; ".join(sentences)) from problem


def _load(folder: Storage, parallel: Parallel, weights_only: bool) -> None:
    manifest = Manifest.read(folder)
    manifest.require_sizes()
    state = state_of(manifest)
    manifest.require_ranks(state["world_size"])
    shapes = state["tables"]
    stored = rectangles(manifest)
    for shard, parts in local_state(parallel):
        require_shape(folder, shapes, shard.table, shard.shape)
        for name, tensor in parts.items():
            if name == "weight" or not weights_only:
                _fill(shard, name, tensor, stored.get((shard.table, name), []), folder)
    load_dense(manifest, parallel, state, weights_only)
    if not weights_only:
        parallel.optimizer.set_step(state["optimizer_steps"])
    if parallel.optimizer.average is not None:
        parallel.optimizer.average.steps = state["averaged_steps"]


def last_epoch(state: Mapping[str, Any]) -> int:
    """The last one that had begun, from 0 on."""
    return max(0, state["epoch"] - (state.get("cursor") is None))


def require_shape(folder: Storage, there: Mapping[str, Sequence[int]], table: str, here: tuple[int, int]) -> None:
    """Raises InputError where a checkpoint's table has other rows or floats than the model's."""
    if table not in there:
        raise InputError(f"checkpoint {folder.location!r} has no table {table!r}: it belongs to another model")
    if tuple(there[table]) != here:
        raise InputError(
            f"checkpoint {folder.location!r}: table {table!r} has shape {list(there[table])} there and "
            f"{list(here)} here: it belongs to another model or vocabulary"
        )


@dataclass(frozen=True)
class Rectangle:
    """One stored piece of a table's weight or state; in an incremental checkpoint with the rows that changed since."""

    row: int
    column: int
    height: int
    width: int
    key: str
    file: TensorFile
    changes: TensorFile | None  # has `rows` and the same key, of the changed rows

    def rows(self, start: int, stop: int) -> Iterator[tuple[int, torch.Tensor]]:
        """Rows start .. stop-1, counted inside the rectangle, in pieces: (first row, values)."""
        if self.changes is None:
            yield from self.file.rows(self.key, start, stop)
            return
        changed = self.changed
        for first, piece in self.file.rows(self.key, start, stop):
            low, high = torch.searchsorted(changed, torch.tensor([first, first + len(piece)])).tolist()
            for begin, values in self.changes.rows(self.key, low, high):
                piece[changed[begin : begin + len(values)] - first] = values
            yield first, piece

    def take(self, rows: np.ndarray) -> torch.Tensor:
        """Some rows (n,), ascending and counted inside the rectangle; those that have not changed as TensorFile.take reads them."""
        if self.changes is None:
            return self.file.take(self.key, rows)
        changed = self.changed.numpy()
        at = np.searchsorted(changed, rows)
        here = np.zeros(len(rows), bool) if not len(changed) else changed[np.minimum(at, len(changed) - 1)] == rows
        found = torch.empty(len(rows), *self.changes.shape(self.key)[1:], dtype=self.changes.dtype(self.key))
        found[torch.from_numpy(~here)] = self.file.take(self.key, rows[~here])
        found[torch.from_numpy(here)] = self.changes.tensor(self.key)[torch.from_numpy(at[here])]
        return found

    @cached_property
    def changed(self) -> torch.Tensor:
        """(n,) of an incremental checkpoint the rows that changed since its base, ascending. Raises DamagedError."""
        assert self.changes is not None
        changed = self.changes.tensor(_rows_key(self.key))
        steps = torch.diff(changed, prepend=torch.tensor([-1]), append=torch.tensor([self.height]))
        if bool((steps <= 0).any()):
            raise DamagedError(
                f"the changed rows of {self.key!r} in an incremental checkpoint are out of order or range"
            )
        return changed


def rectangles(manifest: Manifest) -> dict[tuple[str, str], list[Rectangle]]:
    """(table, name) -> all stored rectangles."""
    newer = _keys(manifest)
    base = manifest.base_manifest()
    older = _keys(base) if base is not None else {}
    found: dict[tuple[str, str], list[Rectangle]] = {}
    for key in {**older, **newer}:
        place, _, name = key.rpartition("|")
        if name == "rows":
            continue
        changes = newer.get(key) if f"{place}|rows" in newer else None
        file = older.get(key) if changes is not None else newer.get(key) or older[key]
        parts = place.rsplit("|", 2)
        if file is None or len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts[1:]):
            raise DamagedError(f"{manifest.storage.location} has a tensor {key!r:.80} that is no part of a table")
        rectangle = _rectangle(key, int(parts[1]), int(parts[2]), file, changes)
        found.setdefault((parts[0], name), []).append(rectangle)
    return found


def _rectangle(key: str, row: int, column: int, file: TensorFile, changes: TensorFile | None) -> Rectangle:
    """Raises DamagedError where the shapes do not fit each other."""
    weight, own = file.shape(f"{key.rpartition('|')[0]}|weight"), file.shape(key)
    fits = len(weight) == 2 and own in (weight, weight[:1])  # a row-wise accumulator has no columns of its own
    fits = fits and file.dtype(key).is_floating_point
    if fits and changes is not None:
        rows = changes.shape(_rows_key(key))
        fits = (
            len(rows) == 1 and changes.dtype(_rows_key(key)) == torch.int64 and changes.shape(key) == (*rows, *own[1:])
        )
        fits = fits and changes.dtype(key) == file.dtype(key)
    if not fits:
        raise DamagedError(
            f"the tensor {key!r:.80} of a checkpoint has shape {list(own)}, its table's weight {list(weight)}"
        )
    return Rectangle(row, column, weight[0], weight[1], key, file, changes)


def _rows_key(key: str) -> str:
    return key.rpartition("|")[0] + "|rows"


def _keys(manifest: Manifest) -> dict[str, TensorFile]:
    files = [manifest.tensor_file(name) for name in sorted(manifest.files) if name.startswith("rank-")]
    return {key: file for file in files for key in file.keys()}  # noqa: SIM118 - not a mapping


@torch.no_grad()
def _fill(shard: Shard, name: str, tensor: torch.Tensor, rectangles: list[Rectangle], folder: Storage) -> None:
    """Copy the overlap of every stored rectangle into this shard.

    A row-wise accumulator has one number for a row of a column shard: where column shards meet, the new one is their mean
    weighted by width, which keeps the row's mean square gradient.
    """
    rows, columns = shard.tensor.shape
    per_row = tensor.ndim == 1
    if per_row:
        tensor.zero_()
    covered = 0
    seen: list[tuple[int, int, int, int]] = []
    for part in rectangles:
        top, bottom = max(part.row, shard.row), min(part.row + part.height, shard.row + rows)
        left, right = max(part.column, shard.column), min(part.column + part.width, shard.column + columns)
        if top >= bottom or left >= right:
            continue
        if any(top < b and a < bottom and left < d and c < right for a, b, c, d in seen):
            raise DamagedError(f"checkpoint {folder.location!r} has {name} of table {shard.table!r} twice")
        seen.append((top, bottom, left, right))
        covered += (bottom - top) * (right - left)
        for first, values in part.rows(top - part.row, bottom - part.row):
            start = first + part.row - shard.row
            if per_row:
                tensor[start : start + len(values)] += values.to(tensor) * ((right - left) / columns)
            else:
                here = tensor[start : start + len(values), left - shard.column : right - shard.column]
                here.copy_(values[:, left - part.column : right - part.column])
    if covered != rows * columns:
        raise InputError(
            f"checkpoint {folder.location!r} lacks {name} of table {shard.table!r}: {covered} of {rows * columns} values of "
            f"this rank's shard are stored. Was it trained with another optimizer.embedding.kind?"
        )


@torch.no_grad()
def load_dense(manifest: Manifest, parallel: Parallel, state: Mapping[str, Any], weights_only: bool) -> None:
    """The part of `load` that is no table, and which members of an ensemble have been trained. Raises InputError, DamagedError."""
    parallel.members_before = state["members_before"]
    if "epoch" in state:
        parallel.begin_epoch(last_epoch(state))
    file = manifest.tensor_file("dense.safetensors")
    stored = {key: file.tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    average = parallel.optimizer.average
    for name, parameter in dense_parameters(parallel):
        weight = stored.get(f"weight|{name}")
        if weight is None or weight.shape != parameter.shape:
            there = "missing" if weight is None else list(weight.shape)
            raise InputError(
                f"checkpoint {manifest.storage.location!r}: parameter {name} is {there} there and {list(parameter.shape)} "
                f"here: it belongs to another model config"
            )
        averaged = stored.pop(f"average|{name}", weight)
        moments = {key.partition("|")[0]: value for key, value in stored.items() if key.partition("|")[2] == name}
        del moments["weight"]
        wrong = [k for k, v in moments.items() if v.shape != (parameter.shape if k != "step" else ())]
        if wrong or averaged.shape != parameter.shape or not weight.is_floating_point():
            raise DamagedError(f"checkpoint {manifest.storage.location!r}: parameter {name} and its moments do not fit")
        parameter.copy_(averaged if weights_only else weight)
        if average is not None:
            average.tensors[parameter].copy_(averaged)
        if weights_only:
            continue
        if moments:
            state = {k: v.to(parameter.device if k != "step" else "cpu") for k, v in moments.items()}
            parallel.optimizer.dense.state[parameter] = state
