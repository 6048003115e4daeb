"""What runs a graph: compiled by AOTInductor, as ONNX, or the modules as they are. In: halves of a model; out: files, then callables.

A compiled graph wants a C++ compiler where it is made and none where it runs. Its instruction set is the artefact's, not that of the
machine that exports: `-march=native` elsewhere is an illegal instruction. ONNX runs in session.py, without torch.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from interformer_rec.checkpoint.tensor_file import TensorFile
from interformer_rec.config.run import RunConfig
from interformer_rec.errors import DamagedError, InputError
from interformer_rec.model.build import build_model
from interformer_rec.model.embedding.ensemble import EmbeddingEnsemble
from interformer_rec.serving.artefact import CONFIG, DENSE, entry_of
from interformer_rec.serving.contents import Isa
from interformer_rec.serving.halves import CandidateHalf, halves
from interformer_rec.serving.rectangle import FEWEST_PLACES, Reads, reads_of
from interformer_rec.serving.scorer import Graph
from interformer_rec.storage import Storage

MOST_STEPS = 128  # of a recurrence: each is written out in the graph
_ROWS = 1 << 24  # that a graph takes at once, at most


def refuse(reads: Sequence[Reads], kind: str) -> None:
    """Raises InputError for a model that has no graph, with the reason; the modules themselves run every model."""
    for one in reads:
        if one.fixed and max(one.longest, default=0) > MOST_STEPS:
            raise InputError(
                f"model.kind {kind} reads a history event by event, and a graph has a step for each of max_length {max(one.longest)} "
                f"events; at most {MOST_STEPS} can be. Export with --runtime eager, or train with a smaller max_length"
            )


def example(reads: Reads, states: Tensor | None) -> tuple[Tensor, ...]:
    """Inputs of the shapes that `dimensions` describes, for tracing; `states` of two users where the graph reads them."""
    rows, generator = 3, torch.Generator().manual_seed(0)
    longest = [max(FEWEST_PLACES, n) if reads.fixed else 4 for n in reads.longest]
    shapes: list[tuple[int, ...]] = [(len(reads.dense),)] if reads.dense else []
    shapes += [(len(fields), width) for width, fields in reads.fields.items()]
    shapes += list(zip(longest, reads.event_widths, strict=True))
    found = [torch.randn(rows, *shape, generator=generator) for shape in shapes]
    if reads.groups:
        found.append(torch.ones(rows, len(reads.groups) + reads.union, dtype=torch.int64))
    if reads.union:
        found.append(torch.ones(rows, longest[0], len(reads.groups)))
    return tuple(found) if states is None else (states, torch.tensor([1, 0, 1]), *found)


def dimensions(half: nn.Module, reads: Reads) -> Any:
    """For torch.export: which sizes may be anything."""
    rows = Dim("rows", min=1, max=_ROWS)
    places = [Dim(f"places_{g}", min=FEWEST_PLACES, max=max(longest, 4)) for g, longest in enumerate(reads.longest)]
    found: list[dict[int, Any]] = []
    for name in reads.names:
        kind, _, number = name.partition("_")
        sizes: dict[int, Any] = {0: rows}
        if kind in ("events", "marks") and not reads.fixed:
            sizes[1] = places[0 if reads.together or kind == "marks" else int(number)]
        found.append(sizes)
    if isinstance(half, CandidateHalf):
        return {0: Dim("users", min=1, max=_ROWS)}, {0: rows}, tuple(found)
    return (tuple(found),)


def trace(half: nn.Module, reads: Reads, states: Tensor | None = None) -> ExportedProgram:
    """The graph of a half."""
    inputs = example(reads, states)
    with _quiet(), torch.no_grad(), _plain_attention():
        return torch.export.export(half, inputs, dynamic_shapes=dimensions(half, reads), strict=False)


def compile_graph(program: ExportedProgram, path: Path, isa: Isa) -> None:
    """Write an AOTInductor package. Raises InputError where the compiler fails."""
    settings: dict[str, Any] = {"cpp.dynamic_threads": True}
    if isa != "native":
        settings |= {"cpp.march": isa, "cpp.simdlen": 256}
    try:
        with _quiet():
            torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=settings)
    except (RuntimeError, OSError) as error:
        raise InputError(
            f"AOTInductor could not compile {path.stem}: {_reason(error)}. Export with --runtime onnx, which needs no C++ compiler"
        ) from error


def write_onnx(program: ExportedProgram, path: Path, inputs: Sequence[str], output: str) -> None:
    """Write an ONNX file. Raises InputError for an operator that ONNX lacks."""
    try:
        with _quiet():
            made = torch.onnx.export(
                program, dynamo=True, input_names=list(inputs), output_names=[output], verbose=False
            )
            assert made is not None
            made.save(str(path), external_data=False)
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        raise InputError(
            f"{path.stem} has no ONNX form: {_reason(error)}. Export with --runtime aoti or eager"
        ) from error


def compiled_graph(path: Path) -> Graph:
    """A graph that `compile_graph` wrote."""
    with _quiet():
        package = torch._inductor.aoti_load_package(str(path))
    return lambda arrays: package(*map(torch.from_numpy, arrays)).numpy()


def eager_graphs(folder: Path, config: RunConfig, members: int) -> list[Graph]:
    """The modules of an artefact's dense weights, in the order in which they run."""
    return [
        eager_graph(half)
        for half in halves(dense_part(folder, config, members), reads_of(config.features, config.model))
    ]


def eager_graph(half: nn.Module) -> Graph:
    """The module itself."""

    def run(arrays: Sequence[np.ndarray]) -> np.ndarray:
        with torch.inference_mode():
            return half(*map(torch.from_numpy, arrays)).numpy()

    return run


def _reason(error: Exception) -> str:
    """The first of the errors that an exporter's error ends in: what it says before is advice to its developers."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"


def dense_part(folder: Path, config: RunConfig, members: int) -> torch.nn.Module:
    """The model of dense.safetensors in evaluation mode. Raises DamagedError where they do not fit each other."""
    model = build_model(config.features, config.model)
    if isinstance(model, EmbeddingEnsemble):
        model.begin_epoch(members - 1)
    storage = Storage.open(folder)
    file = TensorFile(storage, DENSE, entry_of(folder / DENSE))
    stored = {key: file.tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    try:
        model.load_state_dict(stored)
    except RuntimeError as error:
        raise DamagedError(f"{str(folder / DENSE)!r} is not of the model in {CONFIG}: {str(error)[:300]}") from None
    return model.eval()


@contextmanager
def _plain_attention() -> Iterator[None]:
    """torch's encoder layers have an operator of their own for inference, which no exporter knows."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporters warn about their own insides, and a package that it was compiled for less than this processor can."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
