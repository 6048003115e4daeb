"""Checkpoints that do not remember the sharding plan. In: a Parallel and JSON state; out: a folder, and back on any plan.

Tables are stored as rectangles of (row, column) with their optimizer state beside them; a rank that loads reads the
rectangles that overlap its own shards, whatever plan and world size wrote them. Tensors are safetensors files, the rest is
JSON: nothing is ever unpickled. A checkpoint is written into a hidden folder and renamed when every rank is done, so a
folder that can be seen is whole.

    checkpoints/step-00000120/rank-00000.safetensors    <table>|<row>|<column>|weight, ...|momentum1: this rank's rectangles
                              dense.safetensors         dense weights and Adam moments, from rank 0
                              state.json                step, epoch, cursors, schedule, shapes of the tables
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch.distributed._shard.sharded_tensor import ShardedTensor

from interformer_rec.distributed.environment import Environment
from interformer_rec.distributed.parallelize import Parallel
from interformer_rec.distributed.tables import Shard, local_shards
from interformer_rec.errors import InputError

# What the torch.optim twin of a fused optimizer calls the fused optimizer's state.
REPLICATED_STATE = {"sum": "momentum1", "exp_avg": "momentum1", "exp_avg_sq": "momentum2"}


def save(folder: Path, parallel: Parallel, env: Environment, state: dict[str, Any]) -> None:
    """Write `folder` (collective). Memory: a contiguous copy of one rank's column shards; other shards are not copied."""
    hidden = folder.with_name(f".{folder.name}.part")
    if env.is_main:
        shutil.rmtree(hidden, ignore_errors=True)
        hidden.mkdir(parents=True)
    dist.barrier()
    tensors = {}
    shapes = {}
    for shard, parts in local_state(parallel):
        shapes[shard.table] = list(shard.shape)
        if shard.replicated and not env.is_main:
            continue
        for name, tensor in parts.items():
            tensors[f"{shard.table}|{shard.row}|{shard.column}|{name}"] = tensor.detach().contiguous()
    save_file(tensors, hidden / f"rank-{env.rank:05d}.safetensors")
    gathered: list[Any] = [None] * env.world_size
    dist.all_gather_object(gathered, shapes)
    if env.is_main:
        save_file(_dense_state(parallel), hidden / "dense.safetensors")
        tables = {name: shape for part in gathered for name, shape in part.items()}
        (hidden / "state.json").write_text(json.dumps({**state, "tables": tables}, indent=1))
    dist.barrier()
    if env.is_main:
        shutil.rmtree(folder, ignore_errors=True)
        hidden.rename(folder)
    dist.barrier()


def read_state(folder: Path) -> dict[str, Any]:
    """The JSON part of a checkpoint. Raises InputError if it is not one."""
    try:
        return json.loads((folder / "state.json").read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{str(folder)!r} is not a readable checkpoint: state.json: {error}") from None


def load(folder: Path, parallel: Parallel, weights_only: bool = False) -> None:
    """Fill tables, dense part and (unless `weights_only`) optimizer state, for the plan at hand.

    Raises InputError where the checkpoint belongs to another model: it names the table or parameter and both shapes.
    """
    shapes = read_state(folder)["tables"]
    files = sorted(folder.glob("rank-*.safetensors"))
    rectangles = _index(files)
    for shard, parts in local_state(parallel):
        if shard.table not in shapes:
            raise InputError(f"checkpoint {str(folder)!r} has no table {shard.table!r}: it belongs to another model")
        if tuple(shapes[shard.table]) != shard.shape:
            raise InputError(
                f"checkpoint {str(folder)!r}: table {shard.table!r} has shape {shapes[shard.table]} there and "
                f"{list(shard.shape)} here: it belongs to another model or vocabulary"
            )
        for name, tensor in parts.items():
            if name == "weight" or not weights_only:
                _fill(shard, name, tensor, rectangles)
    _load_dense(folder, parallel, weights_only)


def local_state(parallel: Parallel) -> Iterator[tuple[Shard, dict[str, torch.Tensor]]]:
    """Every shard of this rank with its weight and optimizer state, as views of the live memory."""
    fused = _fused_state(parallel)
    seen: dict[str, int] = {}
    replicated = _replicated_state(parallel)
    for shard in local_shards(parallel.model):
        number = seen.get(shard.table, 0)
        seen[shard.table] = number + 1
        state = (
            replicated.get(shard.table, {}) if shard.replicated else fused.get(shard.table, [{}] * (number + 1))[number]
        )
        yield shard, {"weight": shard.tensor, **state}


def _fused_state(parallel: Parallel) -> dict[str, list[dict[str, torch.Tensor]]]:
    """table -> one dict of optimizer tensors a local shard, in the order of the weight's local shards."""
    found: dict[str, list[dict[str, torch.Tensor]]] = {}
    for path, state in parallel.optimizer.fused.state_dict()["state"].items():
        table = path.split(".")[-2]
        for key, value in state.items():
            name = key.split(".")[-1]
            parts = [s.tensor for s in value.local_shards()] if isinstance(value, ShardedTensor) else [value]
            rows = found.setdefault(table, [{} for _ in parts])
            for row, tensor in zip(rows, parts, strict=True):
                row[name] = tensor
    return found


def _replicated_state(parallel: Parallel) -> dict[str, dict[str, torch.Tensor]]:
    """table -> optimizer tensors of the data-parallel tables."""
    optimizer = parallel.optimizer.replicated
    if optimizer is None:
        return {}
    names = {id(parameter): name for name, parameter in parallel.model.named_parameters()}
    found: dict[str, dict[str, torch.Tensor]] = {}
    for parameter in (p for group in optimizer.param_groups for p in group["params"]):
        for key, value in optimizer.state.get(parameter, {}).items():
            if key in REPLICATED_STATE:  # row-wise sums are (rows, 1) here and (rows,) in the fused form
                flat = value.view(-1) if value.ndim == 2 and value.shape[1] == 1 and parameter.shape[1] != 1 else value
                found.setdefault(names[id(parameter)].split(".")[-2], {})[REPLICATED_STATE[key]] = flat
    return found


def _index(files: list[Path]) -> dict[str, list[tuple[Path, str, int, int, tuple[int, ...]]]]:
    """`table|name` -> (file, key, row, column, shape) of every stored rectangle."""
    index: dict[str, list[tuple[Path, str, int, int, tuple[int, ...]]]] = {}
    widths: dict[str, int] = {}
    entries = []
    for file in files:
        try:
            with safe_open(file, framework="pt") as stored:
                for key in stored.keys():  # noqa: SIM118 - not a mapping
                    entries.append((file, key, tuple(stored.get_slice(key).get_shape())))
        except SafetensorError as error:
            raise InputError(f"checkpoint file {str(file)!r} is damaged: {error}") from None
    for _, key, shape in entries:
        table, row, column, name = key.rsplit("|", 3)
        if name == "weight":
            widths[f"{table}|{row}|{column}"] = shape[1]
    for file, key, shape in entries:
        table, row, column, name = key.rsplit("|", 3)
        rectangle = (shape[0], widths[f"{table}|{row}|{column}"], *shape[1:])
        index.setdefault(f"{table}|{name}", []).append((file, key, int(row), int(column), rectangle))
    return index


@torch.no_grad()
def _fill(shard: Shard, name: str, tensor: torch.Tensor, index: dict[str, list[Any]]) -> None:
    """Copy the overlap of every stored rectangle into this shard.

    A row-wise accumulator has one number for a row of a column shard: where column shards meet, the new one is their mean
    weighted by width, which keeps the row's mean square gradient.
    """
    rows, columns = shard.tensor.shape
    per_row = tensor.ndim == 1
    if per_row:
        tensor.zero_()
    covered = 0
    for file, key, row, column, (height, width, *_) in index.get(f"{shard.table}|{name}", []):
        top, bottom = max(row, shard.row), min(row + height, shard.row + rows)
        left, right = max(column, shard.column), min(column + width, shard.column + columns)
        if top >= bottom or left >= right:
            continue
        covered += (bottom - top) * (right - left)
        with safe_open(file, framework="pt") as stored:
            part = stored.get_slice(key)
            if per_row:
                tensor[top - shard.row : bottom - shard.row] += part[top - row : bottom - row].to(tensor) * (
                    (right - left) / columns
                )
            else:
                tensor[top - shard.row : bottom - shard.row, left - shard.column : right - shard.column] = part[
                    top - row : bottom - row, left - column : right - column
                ].to(tensor)
    if covered != rows * columns:
        raise InputError(
            f"checkpoint lacks {name} of table {shard.table!r}: {covered} of {rows * columns} values of this rank's shard "
            f"are stored. Was it trained with another optimizer.embedding.kind?"
        )


def _dense_state(parallel: Parallel) -> dict[str, torch.Tensor]:
    """Dense weights and Adam moments under the parameter's name, on the host."""
    tensors = {}
    for name, parameter in _dense_parameters(parallel):
        tensors[f"weight|{name}"] = parameter.detach().cpu().contiguous()
        for key, value in parallel.optimizer.dense.state.get(parameter, {}).items():
            tensors[f"{key}|{name}"] = value.detach().cpu().contiguous()
    return tensors


def _dense_parameters(parallel: Parallel) -> list[tuple[str, torch.nn.Parameter]]:
    dense = {id(parameter) for parameter in parallel.optimizer.dense_parameters}
    return [(name, parameter) for name, parameter in parallel.model.named_parameters() if id(parameter) in dense]


@torch.no_grad()
def _load_dense(folder: Path, parallel: Parallel, weights_only: bool) -> None:
    try:
        stored = load_file(folder / "dense.safetensors")
    except (OSError, SafetensorError) as error:
        raise InputError(f"checkpoint file {str(folder / 'dense.safetensors')!r} cannot be read: {error}") from None
    for name, parameter in _dense_parameters(parallel):
        weight = stored.get(f"weight|{name}")
        if weight is None or weight.shape != parameter.shape:
            there = "missing" if weight is None else list(weight.shape)
            raise InputError(
                f"checkpoint {str(folder)!r}: parameter {name} is {there} there and {list(parameter.shape)} here: "
                f"it belongs to another model config"
            )
        parameter.copy_(weight)
        if weights_only:
            continue
        moments = {key.split("|")[0]: value for key, value in stored.items() if key.endswith(f"|{name}")}
        del moments["weight"]
        if moments:
            state = {k: v.to(parameter.device if k != "step" else "cpu") for k, v in moments.items()}
            parallel.optimizer.dense.state[parameter] = state
