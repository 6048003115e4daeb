"""The files of a version. In: a trained model in memory, facts of its run; out: tables, weights, graphs and texts."""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from interformer_rec import __version__
from interformer_rec.checkpoint import tensor_file
from interformer_rec.checkpoint.tensor_file import Part
from interformer_rec.config.run import RunConfig
from interformer_rec.errors import say
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
from interformer_rec.serving.signature import Signature
from interformer_rec.serving.tables import Form
from interformer_rec.storage import Storage
from interformer_rec.text import duration

STEPS = 255  # between the smallest and the largest number of a row of an int8 table


@contextmanager
def timed(done: str) -> Iterator[None]:
    """Say how long the block took, on stderr: an export takes minutes."""
    began = time.perf_counter()
    yield
    say(f"{done}, {duration(time.perf_counter() - began)}")


def version_name(checkpoint: str) -> str:
    """ID of a version: when it was made, of which checkpoint; the newest sorts last."""
    return f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S%f}Z-{checkpoint}"


class TableRows(Protocol):
    """Tables that may be larger than memory: checkpoint/stored.py."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, int]]:
        """Rows and floats a row, by table."""

    def blocks(self, table: str) -> Iterator[tuple[int, torch.Tensor]]:
        """(first row, (n, w) float32) of a whole table in order."""

    def take(self, table: str, rows: np.ndarray) -> torch.Tensor:
        """Some rows (n,), ascending -> (n, w) float32."""

    def touched(self, table: str) -> np.ndarray | None:
        """Rows, ascending, that may differ from the last full checkpoint's; None: any may."""


@dataclass(frozen=True)
class Streamed(Part):
    """The rows of several tables, one table after another, read as they are written. `tensor`: of their type, without rows."""

    rows_stored: int = 0
    blocks: Callable[[], Iterator[torch.Tensor]] = lambda: iter(())

    @property
    def shape(self) -> tuple[int, ...]:
        """As stored."""
        return (self.rows_stored, *self.tensor.shape[1:])

    def pieces(self) -> Iterator[memoryview]:
        """The bytes, row by row."""
        for block in self.blocks():
            yield from Part(block).pieces()


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


def write_tables(folder: Path, tables: TableRows, form: Form) -> dict[str, StoredTable]:
    """Every table: a file for those of one width. Tables are read once for each tensor of the form, and never held."""
    found: dict[str, StoredTable] = {}
    for width in sorted({width for _, width in tables.shapes.values()}):
        file, first = f"tables/{width:05d}.safetensors", 0
        names = sorted(name for name, shape in tables.shapes.items() if shape[1] == width)
        for name in names:
            rows = tables.shapes[name][0]
            found[name] = StoredTable(file=file, form=form, first=first, rows=rows, width=width)
            first += rows
        like = parts_of(torch.zeros(1, width), form)
        parts = {
            key: Streamed(one.tensor[:0], None, first, _reading(tables, names, form, key)) for key, one in like.items()
        }
        tensor_file.write(Storage.open(folder), file, parts)
    return found


def _reading(tables: TableRows, names: Sequence[str], form: Form, key: str) -> Callable[[], Iterator[torch.Tensor]]:
    """What is written under a key of a file, block by block."""

    def read() -> Iterator[torch.Tensor]:
        for name in names:
            for _, block in tables.blocks(name):
                yield parts_of(block, form)[key].tensor

    return read


def write_weights(folder: Path, model: nn.Module) -> None:
    """The dense part."""
    parts = {name: Part(tensor.contiguous()) for name, tensor in model.state_dict().items()}
    tensor_file.write(Storage.open(folder), DENSE, parts)


def write_graphs(folder: Path, config: RunConfig, model: nn.Module, runtimes: Sequence[Runtime], isa: Isa) -> None:
    """The graphs for each of `runtimes`. Raises InputError where one cannot be made."""
    if not runtimes:
        return
    reads = reads_of(config.features, config.model)
    parts = halves(model, reads)
    (folder / "graphs").mkdir(parents=True, exist_ok=True)
    states: torch.Tensor | None = None
    for name, half, one in zip(graph_names(len(parts) == 2), parts, reads, strict=True):
        with timed(f"graph {name}: traced"):
            program = trace(half, one, states)
        for runtime in runtimes:
            path = folder / "graphs" / f"{name}{SUFFIX[runtime]}"
            with timed(f"graph {name}: {'compiled' if runtime == 'aoti' else 'written as ONNX'}"):
                if runtime == "aoti":
                    compile_graph(program, path, isa)
                else:
                    write_onnx(program, path, graph_inputs(name, one), OUTPUT[name])
        if name == "user":
            with torch.no_grad():
                states = half(*example(one, None))[:2]


def write_signature(folder: Path, signature: Signature) -> None:
    """signature.json."""
    (folder / SIGNATURE).write_text(signature.to_json(), encoding="utf-8")


def write_contents(
    folder: Path, version: str, config: RunConfig, tables: dict[str, StoredTable], **facts: Any
) -> Contents:
    """model.json; `facts`: runtimes, isa and members."""
    contents = Contents(version=version, kind=config.model.kind, split=is_split(config.model), tables=tables, **facts)
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
        f"Model kind {config.model.kind}, exported by interformer {__version__} with torch {torch.__version__}.",
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
