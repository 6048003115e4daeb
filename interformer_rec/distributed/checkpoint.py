"""Checkpoints that do not remember the sharding plan. In: a Parallel and JSON state; out: a folder, and back on any plan.

Tables are stored as rectangles of (row, column) with their optimizer state beside them; a rank that loads reads the
rectangles that overlap its own shards, whatever plan and world size wrote them. Tensors are safetensors files, the rest is
JSON: nothing is ever unpickled. A checkpoint is written into a hidden folder; when every rank is done its manifest is added
and the folder renamed, so one that can be seen is whole, and later damage shows in the checksums.

    checkpoints/step-00000120/rank-00000.safetensors    <table>|<row>|<column>|weight, ...|momentum1: this rank's rectangles
                              dense.safetensors         dense weights and Adam moments, from rank 0
                              state.json                step, epoch, cursor, schedule, shapes of the tables
                              manifest.json             size and checksum of every file
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from interformer_rec.distributed import manifest
from interformer_rec.distributed.environment import Environment
from interformer_rec.distributed.parallelize import Parallel
from interformer_rec.distributed.state import dense_parameters, local_state
from interformer_rec.distributed.tables import Shard
from interformer_rec.errors import InputError


class SaveError(RuntimeError):
    """A checkpoint could not be written; the ones before it are untouched."""


def save(folder: Path, parallel: Parallel, env: Environment, state: dict[str, Any]) -> None:
    """Write `folder` (collective). Memory: a contiguous copy of one rank's column shards; other shards are not copied.

    Raises SaveError on all ranks, with the message of the rank that failed (disk full, permission denied, ...); nothing
    of the failed attempt stays.
    """
    hidden = folder.with_name(f".{folder.name}.part")
    errors = everywhere(env, lambda: _prepare(hidden) if env.is_main else {})[1]
    files: dict[str, dict[str, Any]] = {}
    if not errors:
        shapes, errors = everywhere(env, lambda: _write_tables(hidden, parallel, env))
        if not errors:
            written, errors = everywhere(
                env, lambda: _write_rest(hidden, parallel, env, {**state, "tables": shapes[0]})
            )
            files = {name: entry for part in written for name, entry in part.items()}
    if not errors:
        errors = everywhere(env, lambda: _commit(hidden, folder, files) if env.is_main else {})[1]
    if errors:
        if env.is_main:
            shutil.rmtree(hidden, ignore_errors=True)
        raise SaveError(f"checkpoint {str(folder)!r} was not written: {'; '.join(errors)}")


def everywhere(env: Environment, work: Callable[[], dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Do `work` on every rank and share results and failures, so that no rank goes on alone."""
    mine: tuple[dict[str, Any], str | None]
    try:
        mine = work(), None
    except (OSError, SafetensorError) as error:
        mine = {}, f"rank {env.rank}: {error}"
    gathered: list[Any] = [None] * env.world_size
    dist.all_gather_object(gathered, mine)
    return [part for part, _ in gathered], [error for _, error in gathered if error]


def _prepare(hidden: Path) -> dict[str, Any]:
    """A fresh hidden folder; what killed runs have left of others goes."""
    for part in hidden.parent.glob(".*.part"):
        shutil.rmtree(part, ignore_errors=True)
    hidden.mkdir(parents=True)
    return {}


def _write_tables(hidden: Path, parallel: Parallel, env: Environment) -> dict[str, Any]:
    """This rank's rectangles; returns the shapes of the tables it knows."""
    tensors = {}
    shapes = {str(row["table"]): [row["rows"], row["dim"]] for row in parallel.plan}
    for shard, parts in local_state(parallel):
        if shard.replicated and not env.is_main:
            continue
        for name, tensor in parts.items():
            tensors[f"{shard.table}|{shard.row}|{shard.column}|{name}"] = tensor.detach().contiguous()
    save_file(tensors, hidden / _rank_file(env))
    return shapes


def _write_rest(hidden: Path, parallel: Parallel, env: Environment, state: dict[str, Any]) -> dict[str, Any]:
    """Dense part and state on rank 0; every rank describes the files it has written."""
    names = [_rank_file(env)]
    if env.is_main:
        save_file(_dense_state(parallel), hidden / "dense.safetensors")
        (hidden / "state.json").write_text(json.dumps(state, indent=1))
        names += ["dense.safetensors", "state.json"]
    return {name: manifest.describe(hidden / name) for name in names}


def _commit(hidden: Path, folder: Path, files: dict[str, dict[str, Any]]) -> dict[str, Any]:
    manifest.write(hidden, files)
    shutil.rmtree(folder, ignore_errors=True)
    hidden.rename(folder)
    return {}


def _rank_file(env: Environment) -> str:
    return f"rank-{env.rank:05d}.safetensors"


def damage(folder: Path, env: Environment) -> list[str]:
    """What is wrong with a checkpoint, the same on every rank (collective: the ranks share the reading)."""
    gathered: list[Any] = [None] * env.world_size
    dist.all_gather_object(gathered, manifest.damage(folder, env.rank, env.world_size))
    return list(dict.fromkeys(sentence for part in gathered for sentence in part))


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
    for name, parameter in dense_parameters(parallel):
        tensors[f"weight|{name}"] = parameter.detach().cpu().contiguous()
        for key, value in parallel.optimizer.dense.state.get(parameter, {}).items():
            tensors[f"{key}|{name}"] = value.detach().cpu().contiguous()
    return tensors


@torch.no_grad()
def _load_dense(folder: Path, parallel: Parallel, weights_only: bool) -> None:
    try:
        stored = load_file(folder / "dense.safetensors")
    except (OSError, SafetensorError) as error:
        raise InputError(f"checkpoint file {str(folder / 'dense.safetensors')!r} cannot be read: {error}") from None
    for name, parameter in dense_parameters(parallel):
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
