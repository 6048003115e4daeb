"""What runs a graph: compiled by AOTInductor, ONNX Runtime, or the modules as they are. In: halves of a model; out: files, then callables.

A compiled graph wants a C++ compiler where it is made and none where it runs. Its instruction set is the artefact's, not that of the
machine that exports: `-march=native` elsewhere is an illegal instruction. ONNX needs no torch where it runs.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from interformer_rec.errors import InputError
from interformer_rec.serving.halves import CandidateHalf
from interformer_rec.serving.rectangle import FEWEST_PLACES, Reads
from interformer_rec.serving.scorer import Graph

Runtime = Literal["aoti", "onnx", "eager"]
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
Isa = Literal["x86-64-v3", "native"]
MOST_STEPS = 128  # of a recurrence: each is written out in the graph
SUFFIX: dict[Runtime, str] = {"aoti": ".pt2", "onnx": ".onnx"}
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


def load_graph(runtime: Runtime, path: Path, inputs: Sequence[str], threads: int = 1) -> Graph:
    """A graph that `compile_graph` or `write_onnx` wrote."""
    if runtime == "aoti":
        with _quiet():
            package = torch._inductor.aoti_load_package(str(path))
        return lambda arrays: package(*map(torch.from_numpy, arrays)).numpy()
    onnxruntime = _onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    known = {one.name for one in session.get_inputs()}  # an input that no operator reads is not in the file
    return lambda arrays: session.run(None, {n: a for n, a in zip(inputs, arrays, strict=True) if n in known})[0]


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


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise InputError(
            "this artefact's graphs are ONNX, and the package onnxruntime is not installed: pip install 'interformer-rec[serve]'"
        ) from None
    return onnxruntime


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
