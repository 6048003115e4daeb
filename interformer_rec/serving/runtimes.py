"""What runs a graph: compiled by AOTInductor, as ONNX, or the modules as they are. In: halves of a model; out: files, then callables.

A compiled graph wants a C++ compiler where it is made and none where it runs. Its instruction set is the artefact's, not that of the
machine that exports: `-march=native` elsewhere is an illegal instruction. ONNX runs in session.py, without torch.
"""

import logging
import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence
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
from interformer_rec.serving.artefact import CONFIG, DENSE
from interformer_rec.serving.contents import Isa
from interformer_rec.serving.halves import CandidateHalf, halves
from interformer_rec.serving.published.manifest import entry_of
from interformer_rec.serving.rectangle import FEWEST_PLACES, Reads, reads_of
from interformer_rec.serving.scorer import Graph
from interformer_rec.storage import Storage

MOST_STEPS = 128  # of a recurrence: each is written out in the graph
PLAIN = ".plain.onnx"  # suffix of an ONNX graph whose weights are all as the model has them
HALF = "model."  # what a half calls its model (halves.py): before the name of each weight
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
    if states is None:
        return tuple(found)
    return states, torch.tensor([1, 0, 1]), *(one[:, None].repeat_interleave(2, 1) for one in found)


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
        blocks, candidates = Dim("blocks", min=1, max=_ROWS), Dim("candidates", min=1, max=_ROWS)
        return {0: Dim("users", min=1, max=_ROWS)}, {0: blocks}, tuple({0: blocks, 1: candidates} for _ in found)
    return (tuple(found),)


def trace(half: nn.Module, reads: Reads, states: Tensor | None = None) -> ExportedProgram:
    """The graph of a half."""
    inputs = example(reads, states)
    with _quiet(), torch.no_grad(), _plain_attention():
        return torch.export.export(half, inputs, dynamic_shapes=dimensions(half, reads), strict=False)


def compile_graph(program: ExportedProgram, path: Path, isa: Isa) -> None:
    """Write an AOTInductor package. Raises InputError where the compiler fails."""
    # By default Inductor writes one-dimensional weights of up to 8 numbers into the code, where no delta would reach them.
    settings: dict[str, Any] = {"cpp.dynamic_threads": True, "always_keep_tensor_constants": True}
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
    """Write an ONNX file, and beside it NAME.plain.onnx, from which one with other weights is made: in the file itself the optimizer has
    worked weights into others. Raises InputError for an operator that ONNX lacks."""
    plain = path.with_name(f"{path.stem}{PLAIN}")
    try:
        with _quiet():
            made = torch.onnx.export(
                program,
                dynamo=True,
                input_names=list(inputs),
                output_names=[output],
                verbose=False,
                optimize=False,
            )
            assert made is not None
            made.save(str(plain), external_data=False)
        write_renewed_onnx(plain, {}, path)
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        raise InputError(
            f"{path.stem} has no ONNX form: {_reason(error)}. Export with --runtime aoti or eager"
        ) from error


def write_renewed_onnx(plain: Path, weights: Mapping[str, Tensor], path: Path) -> None:
    """Write the ONNX file of a plain one with these dense weights in place of its own."""
    import onnxscript  # is not there where nothing but compiled graphs is exported

    model = onnxscript.ir.load(plain)
    for name, value in model.graph.initializers.items():
        if (weight := weights.get(name.removeprefix(HALF))) is not None:
            value.const_value = onnxscript.ir.tensor(weight.numpy(), name=name)
    with _quiet():
        onnxscript.ir.save(onnxscript.optimizer.optimize(model), path)


class _Packages:
    """Loaded copies of one package. torch unloads none, so those that nobody uses any more are used again."""

    def __init__(self, path: Path) -> None:
        self._path, self.free = path, list[Any]()

    def take(self) -> Any:
        try:
            return self.free.pop()
        except IndexError:
            with _quiet():
                return torch._inductor.aoti_load_package(str(self._path))


class CompiledGraph:
    """A graph that `compile_graph` wrote, with the dense weights it was compiled with or others."""

    def __init__(self, packages: _Packages) -> None:
        self.packages, self.package = packages, packages.take()
        weakref.finalize(self, packages.free.append, self.package)

    def __call__(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """As Graph."""
        found: np.ndarray = self.package(*map(torch.from_numpy, arrays)).numpy()
        return found


def compiled_graph(path: Path, folder: Path | None = None) -> CompiledGraph:
    """With the weights of `folder`/dense.safetensors; None: those that it was compiled with."""
    found = CompiledGraph(_Packages(path))
    return found if folder is None else _weighted(found, dense_weights(folder))


def renewed_graph(graph: CompiledGraph, folder: Path, version: Path) -> CompiledGraph:
    """The same graph with the weights of `folder`/dense.safetensors; `graph` keeps its own.

    Raises DamagedError where they are not of the names, shapes and types that the folder of the `version` has: nothing else checks that.
    """
    weights, like = dense_weights(folder), dense_weights(version)
    if {n: (t.shape, t.dtype) for n, t in weights.items()} != {n: (t.shape, t.dtype) for n, t in like.items()}:
        raise DamagedError(f"{str(folder / DENSE)!r} is not of the model of version {version.name!r}")
    return _weighted(CompiledGraph(graph.packages), weights)


def _weighted(graph: CompiledGraph, weights: Mapping[str, Tensor]) -> CompiledGraph:
    taken = {name: weights.get(name.removeprefix(HALF)) for name in graph.package.get_constant_fqns()}
    given = {name: tensor for name, tensor in taken.items() if tensor is not None}
    graph.package.load_constants(given, check_full_update=False)  # buffers that are no weights stay
    return graph


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
    try:
        model.load_state_dict(dense_weights(folder))
    except RuntimeError as error:
        raise DamagedError(f"{str(folder / DENSE)!r} is not of the model in {CONFIG}: {str(error)[:300]}") from None
    return model.eval()


def dense_weights(folder: Path) -> dict[str, Tensor]:
    """Of dense.safetensors. Raises DamagedError."""
    file = TensorFile(Storage.open(folder), DENSE, entry_of(folder / DENSE))
    return {key: file.tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping


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
