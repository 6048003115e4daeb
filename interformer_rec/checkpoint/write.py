"""A checkpoint's way to storage. In: a Parallel and JSON state; out: files that do not remember the sharding plan.

Tables are stored as rectangles of (row, column) with their optimizer state beside them; whoever loads reads the rectangles
that overlap its own shards (read.py), whatever plan and world size wrote them. Tensors are safetensors files, the rest
is JSON: nothing is ever unpickled. The manifest is written last, so a folder with one is whole.

    checkpoints/step-00000120/rank-00000.safetensors    <table>|<row>|<column>|weight, ...|momentum1: this rank's rectangles
                              dense.safetensors         dense weights, Adam moments, moving average, from rank 0
                              state.json                step, epoch, cursor, schedule, log interval, versions, shapes of the tables
                              run/config.yaml           what else a new machine needs: config and vocabularies
                              manifest.json             size and checksums of every file, name and checksum of the base
                              evaluated.json            after an evaluation: its value and the state that it changed

An incremental checkpoint holds, of every followed shard, `...|rows` (n,) and the weight and state of these rows only, and of run/ the
files that were written again since (vocabularies that grew); the rest is in its base.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist

from interformer_rec.checkpoint import tensor_file
from interformer_rec.checkpoint.checked import MANIFEST, Checked
from interformer_rec.checkpoint.manifest import Base, Manifest, rank_file
from interformer_rec.checkpoint.tensor_file import Part
from interformer_rec.checkpoint.touched_rows import TouchedRows
from interformer_rec.distributed.environment import Environment
from interformer_rec.distributed.parallelize import Parallel
from interformer_rec.distributed.state import dense_parameters, local_state
from interformer_rec.files import finite
from interformer_rec.install import stack
from interformer_rec.storage import Storage, patiently

T = TypeVar("T")
FULL_ABOVE = 0.5  # share of a shard's rows above which an incremental checkpoint holds all of them


@dataclass(frozen=True)
class Written:
    """A checkpoint that is whole: bytes over all ranks, SHA-256 of its manifest."""

    nbytes: int
    sha256: str


class SaveError(RuntimeError):
    """A checkpoint could not be written; the ones before it are untouched."""


@dataclass(frozen=True)
class Content:
    """What this rank contributes to a checkpoint: views of the live memory, or copies on the host."""

    tables: Mapping[str, Part]
    dense: Mapping[str, Part]  # {} but on rank 0
    state: dict[str, Any]
    attachments: Mapping[str, Path]  # name in the checkpoint -> local file; {} but on rank 0
    base: Base | None = None

    @property
    def nbytes(self) -> int:
        """Of the tensors."""
        return sum(part.nbytes for parts in (self.tables, self.dense) for part in parts.values())

    def on_host(self, memory: dict[str, Part]) -> Content:
        """Copies that training does not change; `memory` holds the copies of full tables for the next time."""

        def copy(key: str, part: Part) -> Part:
            if part.rows is not None:
                return part.on_host()
            memory[key] = part.on_host(memory[key].tensor if key in memory else None)
            return memory[key]

        return replace(
            self,
            tables={key: copy(key, part) for key, part in self.tables.items()},
            dense={key: copy(f"dense {key}", part) for key, part in self.dense.items()},
        )


def collect(
    parallel: Parallel,
    env: Environment,
    state: dict[str, Any],
    attachments: Mapping[str, Path] | None = None,
    touched: TouchedRows | None = None,
    base: Base | None = None,
) -> Content:
    """This rank's part, as views. With `base`: of the shards that `touched` follows the touched rows only."""
    tables: dict[str, Part] = {}
    for shard, parts in local_state(parallel):
        if shard.replicated and not env.is_main:
            continue
        place = f"{shard.table}|{shard.row}|{shard.column}"
        rows = touched.rows(shard.table, shard.row, shard.column) if touched is not None and base else None
        if rows is not None and len(rows) > FULL_ABOVE * len(shard.tensor):
            rows = None
        if rows is not None:
            tables[f"{place}|rows"] = Part(rows)
        tables |= {f"{place}|{name}": Part(tensor, rows) for name, tensor in parts.items()}
    shapes = {one.table: [one.rows, one.dim] for one in parallel.plan}
    return Content(
        tables,
        _dense_parts(parallel) if env.is_main else {},
        {
            **state,
            "optimizer_steps": parallel.optimizer.step_count,
            "averaged_steps": parallel.optimizer.average.steps if parallel.optimizer.average is not None else 0,
            "members_before": parallel.members_before,
            "tables": shapes,
            "world_size": env.world_size,
            "versions": {name: version for name, version in asdict(stack.installed()).items() if version},
        },
        (attachments or {}) if env.is_main else {},
        base,
    )


def write(
    folder: Storage,
    content: Content,
    env: Environment,
    group: dist.ProcessGroup | None = None,
    beat: Callable[[], None] = lambda: None,
) -> Written:
    """Write `folder` (collective over `group`, a gloo group). `beat`: called once a piece.

    Raises SaveError on all ranks, with the message of the rank that failed (disk full, permission denied, ...).
    """
    files: dict[str, Any] = {}
    marks: list[str] = []
    _, errors = everywhere(env, lambda: _prepare(folder) if env.is_main else None, group)
    if not errors:
        written, errors = everywhere(env, lambda: _write_files(folder, content, env, beat), group)
        files = {name: entry for part in written for name, entry in part.items()}
    if not errors:
        manifest = Manifest(folder, files, content.base)
        marks, errors = everywhere(env, lambda: manifest.write() if env.is_main else "", group)
    if errors:
        # a full disk wants its space back
        everywhere(env, lambda: folder.folder("..").remove(folder.name) if env.is_main else None, group)
        raise SaveError(f"checkpoint {folder.location!r} was not written: {'; '.join(errors)}")
    return Written(sum(entry["bytes"] for entry in files.values()), marks[0])


def everywhere(
    env: Environment, work: Callable[[], T], group: dist.ProcessGroup | None = None
) -> tuple[list[T], list[str]]:
    """Do `work` on every rank and share results and failures, so that no rank goes on alone: (what each gave, errors).

    Where there are errors there are no results.
    """
    mine: tuple[T | None, str | None]
    try:
        mine = work(), None
    except OSError as error:
        mine = None, f"rank {env.rank}: {error}"
    gathered: list[Any] = [None] * env.world_size
    dist.all_gather_object(gathered, mine, group=group)
    errors = [error for _, error in gathered if error]
    return [] if errors else [part for part, _ in gathered], errors


def _prepare(folder: Storage) -> None:
    """An old one of this name is no checkpoint from now on: it was damaged, or never finished."""
    folder.remove(MANIFEST)
    for name in folder.names():
        folder.remove(name)


def _write_files(folder: Storage, content: Content, env: Environment, beat: Callable[[], None]) -> dict[str, Any]:
    """This rank's files; returns their entries."""
    name = rank_file(env.rank)
    entries = {name: tensor_file.write(folder, name, content.tables, beat)}
    if env.is_main:
        entries["dense.safetensors"] = tensor_file.write(folder, "dense.safetensors", content.dense, beat)
        entries["state.json"] = _write_bytes(folder, "state.json", _json(content.state), beat)
        for name, path in content.attachments.items():
            entries[name] = _write_bytes(folder, name, path.read_bytes(), beat)
    return entries


def _json(state: dict[str, Any]) -> bytes:
    return json.dumps(finite(state), indent=1, allow_nan=False).encode()


def _write_bytes(folder: Storage, name: str, content: bytes, beat: Callable[[], None]) -> dict[str, Any]:
    def once() -> dict[str, Any]:
        with folder.create(name) as file:
            checked = Checked(file, beat)
            checked.write(content)
        return checked.entry()

    return patiently(once)


def _dense_parts(parallel: Parallel) -> dict[str, Part]:
    """Dense weights, Adam moments and, where there is one, the moving average under the parameter's name."""
    parts = {}
    average = parallel.optimizer.average
    for name, parameter in dense_parameters(parallel):
        parts[f"weight|{name}"] = Part(parameter)
        for key, value in parallel.optimizer.dense.state.get(parameter, {}).items():
            parts[f"{key}|{name}"] = Part(value)
        if average is not None:
            parts[f"average|{name}"] = Part(average.tensors[parameter])
    return parts
