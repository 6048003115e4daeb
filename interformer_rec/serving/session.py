"""ONNX graphs in ONNX Runtime. In: an .onnx file of an artefact; out: a function of its input arrays. Needs no torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from interformer_rec.errors import InputError
from interformer_rec.serving.scorer import Graph


def onnx_graph(path: Path, inputs: Sequence[str], threads: int = 1) -> Graph:
    """`inputs`: names of the arrays that the function takes, in order. Raises InputError where onnxruntime is not installed."""
    onnxruntime = _onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    known = {one.name for one in session.get_inputs()}  # an input that no operator reads is not in the file
    return lambda arrays: session.run(None, {n: a for n, a in zip(inputs, arrays, strict=True) if n in known})[0]


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise InputError(
            "this artefact's graphs are ONNX, and the package onnxruntime is not installed: pip install 'interformer-rec[serve]'"
        ) from None
    return onnxruntime
