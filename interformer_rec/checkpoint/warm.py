"""Parts of a checkpoint -> a model that is not quite the same. In: which row and which part of a weight comes from where; out: filled.

Like read.load, for any plan and world size on both sides, streamed in pieces; what has no counterpart keeps its first weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from interformer_rec.checkpoint.manifest import Manifest
from interformer_rec.checkpoint.read import Rectangle, rectangles
from interformer_rec.distributed.lookup.tables import Shard
from interformer_rec.distributed.parallelize import Parallel
from interformer_rec.distributed.state import dense_parameters, local_state
from interformer_rec.errors import DamagedError

BLOCK_ROWS = 1 << 24  # of a shard whose sources are looked up at a time: what bounds the memory, with the vocabularies


@dataclass(frozen=True)
class CopiedRows:
    """Where the rows of a table come from. `there`: (rows,) int64, of each row here its row there, -1 for none; None: the same row, of
    the first `shared`. `states`: the optimizer's state comes too."""

    there: np.ndarray | None
    shared: int = 0
    states: bool = True

    def of(self, start: int, stop: int) -> np.ndarray:
        """Of rows start .. stop-1 here."""
        if self.there is not None:
            return self.there[start:stop]
        rows = np.arange(start, stop)
        rows[max(0, self.shared - start) :] = -1
        return rows


@dataclass(frozen=True)
class Copied:
    """Where a weight comes from: its name there and, for each axis that is cut, places here and there (n,) each.

    `zeroed`: (axis, places here) that start at zero.
    """

    name: str
    places: tuple[tuple[np.ndarray, np.ndarray] | None, ...]
    zeroed: tuple[tuple[int, np.ndarray], ...] = ()


@torch.no_grad()
def fill_tables(manifest: Manifest, parallel: Parallel, tables: Mapping[str, CopiedRows]) -> None:
    """Copy rows and optimizer state of the named tables into this rank's shards. Raises DamagedError."""
    stored = rectangles(manifest)
    for shard, parts in local_state(parallel):
        rows = tables.get(shard.table)
        for name, tensor in parts.items() if rows is not None else ():
            if name == "weight" or (rows is not None and rows.states):
                assert rows is not None
                for start in range(0, len(tensor), BLOCK_ROWS):
                    wanted = rows.of(shard.row + start, shard.row + min(start + BLOCK_ROWS, len(tensor)))
                    _fill(shard, name, tensor[start:], stored.get((shard.table, name), []), torch.from_numpy(wanted))


def _fill(shard: Shard, name: str, tensor: torch.Tensor, stored: list[Rectangle], wanted: torch.Tensor) -> None:
    """The first rows of one tensor of a shard; a row-wise accumulator is averaged over column shards as in read.load."""
    columns = shard.tensor.shape[1]
    order = torch.argsort(wanted, stable=True)
    order = order[int((wanted < 0).sum()) :]
    wanted = wanted[order]
    per_row = tensor.ndim == 1
    if per_row:
        tensor[order.to(tensor.device)] = 0
    covered = 0
    for part in stored:
        left, right = max(part.column, shard.column), min(part.column + part.width, shard.column + columns)
        low, high = torch.searchsorted(wanted, torch.tensor([part.row, part.row + part.height])).tolist()
        if left >= right or low == high:
            continue
        for first, values in part.rows(int(wanted[low]) - part.row, int(wanted[high - 1]) + 1 - part.row):
            begin = first + part.row
            a, b = torch.searchsorted(wanted, torch.tensor([begin, begin + len(values)])).tolist()
            here, taken = order[a:b].to(tensor.device), values[wanted[a:b] - begin]
            covered += (b - a) * (right - left)
            if per_row:
                tensor[here] += taken.to(tensor) * ((right - left) / columns)
            else:
                tensor[here, left - shard.column : right - shard.column] = taken[
                    :, left - part.column : right - part.column
                ].to(tensor)
    if covered != len(wanted) * columns:
        raise DamagedError(
            f"the checkpoint lacks {name} of table {shard.table!r}: {covered} of {len(wanted) * columns} values are stored"
        )


@torch.no_grad()
def fill_dense(manifest: Manifest, parallel: Parallel, parts: Mapping[str, Copied]) -> None:
    """Copy parts of dense weights, moments and moving average. Raises DamagedError."""
    file = manifest.tensor_file("dense.safetensors")
    keys: dict[str, list[str]] = {}
    for key in file.keys():  # noqa: SIM118 - not a mapping
        what, _, name = key.partition("|")
        keys.setdefault(name, []).append(what)
    average = parallel.optimizer.average
    for name, parameter in dense_parameters(parallel):
        if (part := parts.get(name)) is None:
            continue
        stored = {what: file.tensor(f"{what}|{part.name}") for what in keys.get(part.name, [])}
        weight = stored.pop("weight", None)
        if weight is None or any(value.shape not in (weight.shape, ()) for value in stored.values()):
            raise DamagedError(
                f"checkpoint {manifest.storage.location!r}: weight {part.name} and its moments do not fit"
            )
        averaged = stored.pop("average", weight)
        place(parameter, weight, part)
        if average is not None:
            target = average.tensors[parameter]
            target.copy_(parameter)
            place(target, averaged, part)
        if stored:
            state: dict[str, Any] = {}
            for what, value in stored.items():
                if value.ndim == 0 and what == "step":
                    state[what] = value
                else:
                    state[what] = torch.zeros_like(parameter)
                    place(state[what], value, part)
            parallel.optimizer.dense.state[parameter] = state


def place(target: torch.Tensor, value: torch.Tensor, part: Copied) -> None:
    """Copy the places of `value` that mean the same into `target`, and zero those that a new feature's values meet."""
    here, there = [], []
    for axis, places in enumerate(part.places):
        shape = [-1 if one == axis else 1 for one in range(target.ndim)]
        whole = np.arange(value.shape[axis])
        a, b = (whole, whole) if places is None else places
        here.append(torch.from_numpy(a).view(shape).to(target.device))
        there.append(torch.from_numpy(b).view(shape))
    target[tuple(here)] = value[tuple(there)].to(target)
    for axis, zeroed in part.zeroed:
        target.index_fill_(axis, torch.from_numpy(zeroed).to(target.device), 0)
