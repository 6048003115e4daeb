"""The files of a version. In: a trained model in memory, facts of its run; out: tables, weights, graphs and texts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from interformer_rec import __version__
from interformer_rec.checkpoint import tensor_file
from interformer_rec.checkpoint.tensor_file import Part
from interformer_rec.config.run import RunConfig
from interformer_rec.data.fit import Fitted
from interformer_rec.distributed.lookup.tables import Shard
from interformer_rec.model.embedding.ensemble import EmbeddingEnsemble
from interformer_rec.serving.artefact import (
    CARD,
    CONFIG,
    CONTENTS,
    DENSE,
    GOLDEN,
    OUTPUT,
    SIGNATURE,
    graph_inputs,
    graph_names,
)
from interformer_rec.serving.contents import SUFFIX, Contents, Isa, Runtime, StoredTable
from interformer_rec.serving.halves import halves
from interformer_rec.serving.rectangle import is_split, reads_of
from interformer_rec.serving.runtimes import compile_graph, example, trace, write_onnx
from interformer_rec.serving.signature import Signature, signature_of
from interformer_rec.serving.tables import Form
from interformer_rec.storage import Storage

STEPS = 255  # between the smallest and the largest number of a row of an int8 table


def version_name(checkpoint: str) -> str:
    """ID of a version: when it was made, of which checkpoint; the newest sorts last."""
    return f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S%f}Z-{checkpoint}"


def parts_of(weight: torch.Tensor, form: Form) -> dict[str, Part]:
    """What is stored of a table (rows, w)."""
    if form == "fp32":
        return {"weight": Part(weight)}
    if form == "fp16":
        return {"weight": Part(weight.half())}
    low, high = weight.amin(1), weight.amax(1)
    scale = (high - low) / STEPS
    steps = ((weight - low[:, None]) / torch.where(scale > 0, scale, 1.0)[:, None]).round_().clamp_(0, STEPS)
    return {"weight": Part(steps.to(torch.uint8)), "scale": Part(scale), "bias": Part(low)}


def write_tables(folder: Path, shards: Iterable[Shard], form: Form) -> dict[str, StoredTable]:
    """Every table, one file each."""
    found: dict[str, StoredTable] = {}
    for number, (name, weight) in enumerate(sorted(_assembled(shards).items())):
        file = f"tables/{number:05d}.safetensors"
        tensor_file.write(Storage.open(folder), file, parts_of(weight, form))
        found[name] = StoredTable(file=file, form=form, rows=weight.shape[0], width=weight.shape[1])
    return found


def _assembled(shards: Iterable[Shard]) -> dict[str, torch.Tensor]:
    """Whole tables; one that is not cut is not copied."""
    found: dict[str, torch.Tensor] = {}
    for shard in shards:
        if shard.tensor.shape == shard.shape:
            found[shard.table] = shard.tensor.detach()
            continue
        whole = found.setdefault(shard.table, torch.empty(shard.shape))
        rows, columns = shard.tensor.shape
        whole[shard.row : shard.row + rows, shard.column : shard.column + columns] = shard.tensor.detach()
    return {name: table.float().cpu() for name, table in found.items()}


def write_weights(folder: Path, model: nn.Module) -> None:
    """The dense part."""
    parts = {name: Part(tensor.contiguous()) for name, tensor in model.state_dict().items()}
    tensor_file.write(Storage.open(folder), DENSE, parts)


def write_graphs(folder: Path, config: RunConfig, model: nn.Module, runtimes: Sequence[Runtime], isa: Isa) -> None:
    """The graphs for each of `runtimes`. Raises InputError where one cannot be made."""
    reads = reads_of(config.features, config.model)
    parts = halves(model, reads)
    (folder / "graphs").mkdir(parents=True, exist_ok=True)
    states: torch.Tensor | None = None
    for name, half, one in zip(graph_names(len(parts) == 2), parts, reads, strict=True):
        program = trace(half, one, states)
        for runtime in runtimes:
            path = folder / "graphs" / f"{name}{SUFFIX[runtime]}"
            if runtime == "aoti":
                compile_graph(program, path, isa)
            else:
                write_onnx(program, path, graph_inputs(name, one), OUTPUT[name])
        if name == "user":
            with torch.no_grad():
                states = half(*example(one, None))[:2]


def write_contents(
    folder: Path, version: str, config: RunConfig, fitted: Fitted, tables: dict[str, StoredTable], **facts: Any
) -> Contents:
    """signature.json and model.json; `facts`: runtimes, isa and members."""
    assert fitted.meaning is not None
    signature = signature_of(fitted.meaning)
    contents = Contents(version=version, kind=config.model.kind, split=is_split(config.model), tables=tables, **facts)
    (folder / SIGNATURE).write_text(signature.to_json(), encoding="utf-8")
    (folder / CONTENTS).write_text(contents.to_json(), encoding="utf-8")
    return contents


def trained_members(model: nn.Module) -> int:
    """Members of an ensemble that answer; 1 for a single model."""
    return model.begun if isinstance(model, EmbeddingEnsemble) else 1


def write_config(folder: Path, config: bytes, features: Path) -> None:
    """config.yaml as the run has it, and the fitted vocabularies."""
    (folder / CONFIG).write_bytes(config)
    shutil.copytree(features, folder / "features")


def write_golden(folder: Path, rows: Sequence[dict[str, Any]], scores: np.ndarray, tasks: Sequence[str]) -> None:
    """golden.jsonl: requests with the probabilities that the version itself gives them, in its preferred runtime."""
    lines = [
        json.dumps({"row": row, "scores": dict(zip(tasks, map(float, found), strict=True))}, allow_nan=False)
        for row, found in zip(rows, scores, strict=True)
    ]
    (folder / GOLDEN).write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_card(folder: Path, config: RunConfig, contents: Contents, facts: dict[str, Any]) -> None:
    """model_card.md, for people."""
    signature = Signature.from_json((folder / SIGNATURE).read_bytes(), SIGNATURE)
    rows = [f"| {name} | {_cell(value)} |" for name, value in facts.items()]
    tables = [
        f"| {_cell(name)} | {table.rows:,} | {table.width} | {table.form} |" for name, table in contents.tables.items()
    ]
    inputs = [
        f"| {_cell(one.name)} | {one.part} | {_cell(one.type)} | {_cell(one.reads)} |" for one in signature.inputs
    ]
    text = [
        f"# {_cell(config.name)}, version {contents.version}",
        "",
        f"A {config.model.kind} model, exported by interformer {__version__} with torch {torch.__version__}.",
        "",
        *("| fact | value |", "|---|---|", *rows, ""),
        *("## What it takes", "", "| column | of | Arrow type | read as |", "|---|---|---|---|", *inputs, ""),
        *("## What it gives", "", *(f"- {_cell(one.name)}: a probability" for one in signature.outputs), ""),
        *("## Tables", "", "| table | rows | floats a row | form |", "|---|---|---|---|", *tables, ""),
    ]
    (folder / CARD).write_text("\n".join(text), encoding="utf-8")


def _cell(value: object) -> str:
    """Names come from other people's configs: no line breaks and no column marks of theirs in a table."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return "".join(one if one.isprintable() else " " for one in text).replace("|", "\\|")
