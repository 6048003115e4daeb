"""The Open Inference Protocol, version 2 (https://github.com/kserve/open-inference-protocol): tensors in, tensors out.

Rows are independent. An input of one value a row is a tensor of shape [N]. An input of a list a row has shape [N, T]; its parameter
`lengths`, a list of N numbers, says how many of each row's T are there, and without it all T are. Text, dates and times are BYTES.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from interformer_rec.data.decode.arrays import is_list
from interformer_rec.serving.encode.side import element_type
from interformer_rec.serving.engine.versions import Served
from interformer_rec.serving.server.answers import Refused
from interformer_rec.serving.signature import Input

PLATFORM = "interformer_rec"
DATATYPES = ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP32", "FP64", "BYTES")


def datatype(type_: pa.DataType) -> str:
    """The protocol's word for an Arrow type: the widest of its kind."""
    if pa.types.is_boolean(type_):
        return "BOOL"
    if pa.types.is_integer(type_):
        return "INT64"
    return "FP64" if pa.types.is_floating(type_) or pa.types.is_decimal(type_) else "BYTES"


def metadata(name: str, versions: list[str], types: Mapping[str, pa.DataType], outputs: list[str]) -> dict[str, Any]:
    """The answer of GET /v2/models/NAME."""
    inputs = []
    for column, type_ in types.items():
        shape = [-1, -1] if is_list(type_) else [-1]
        inputs.append({"name": column, "datatype": datatype(element_type(type_)), "shape": shape})
    found = [{"name": output, "datatype": "FP32", "shape": [-1]} for output in outputs]
    return {"name": name, "versions": versions, "platform": PLATFORM, "inputs": inputs, "outputs": found}


def columns(
    body: Mapping[str, Any],
    inputs: Mapping[str, Input],
    types: Mapping[str, pa.DataType],
    check_rows: Callable[[int], None],
    ignores: bool = False,
) -> dict[str, list[Any]]:
    """The tensors of a request as a list of values a column; `ignores`: those that no input has are left out. Raises Refused, as
    `check_rows` does for too many rows."""
    tensors = body.get("inputs")
    if not isinstance(tensors, list) or not tensors:
        raise _wrong("inputs: must be a list of tensors", "inputs")
    found: dict[str, list[Any]] = {}
    for i, tensor in enumerate(tensors):
        name = tensor.get("name") if isinstance(tensor, dict) else None
        if not isinstance(name, str):
            raise _wrong(f"inputs[{i}]: must be an object with a name, shape, datatype and data", f"inputs[{i}]")
        if name in found:
            raise _wrong(f"the input {name[:80]!r} is there twice", name)
        if name not in inputs and ignores:
            continue
        if name not in inputs:
            raise _wrong(f"the model has no input {name[:80]!r}; it has {', '.join(inputs)}", name)
        rows, places = _shape(tensor, name, is_list(types[name]))
        check_rows(rows)  # before a list is made for each: a shape may name rows that the body does not hold
        found[name] = _column(tensor, name, rows, places)
    return found


def _shape(tensor: Mapping[str, Any], name: str, lists: bool) -> tuple[int, int | None]:
    """Rows, and places of each; None: one value a row."""
    shape = tensor.get("shape")
    rank = 2 if lists else 1
    if not isinstance(shape, list) or len(shape) != rank or not all(type(size) is int and size >= 0 for size in shape):
        raise _wrong(f"{name}: the shape must be {'[rows, most events]' if lists else '[rows]'}", name)
    return shape[0], shape[1] if lists else None


def _column(tensor: Mapping[str, Any], name: str, rows: int, places: int | None) -> list[Any]:
    data = tensor.get("data")
    if tensor.get("datatype") not in DATATYPES:
        raise _wrong(f"{name}: the datatype must be one of {', '.join(DATATYPES)}", name)
    if not isinstance(data, list):
        raise _wrong(f"{name}: data must be a list", name)
    width = 1 if places is None else places
    nested = bool(data) and all(isinstance(row, list) for row in data)
    if nested and (len(data) != rows or any(len(row) != width for row in data)):
        raise _wrong(f"{name}: data in lists must be {rows} lists of {width} values each, as its shape says", name)
    flat = [value for row in data for value in row] if nested else data
    if len(flat) != rows * width:
        raise _wrong(f"{name}: {len(flat)} values are no tensor of shape {tensor['shape']}", name)
    if places is None:
        return flat
    parameters = tensor.get("parameters")
    lengths = parameters.get("lengths") if isinstance(parameters, dict) else None
    if lengths is None:
        lengths = [places] * rows
    if (
        not isinstance(lengths, list)
        or len(lengths) != rows
        or not all(type(length) is int and 0 <= length <= places for length in lengths)
    ):
        raise _wrong(f"{name}: the parameter lengths must be {rows} numbers from 0 to {places}", name)
    return [flat[i * places : i * places + length] for i, length in enumerate(lengths)]


def outputs(body: Mapping[str, Any], served: Served, scores: np.ndarray) -> dict[str, Any]:
    """The answer of an inference: scores (N, tasks), those that the request names or all. Raises Refused.

    The protocol knows versions alone: the delta that scored, where there is one, is a parameter of the answer.
    """
    tasks = [one.name for one in served.signature.outputs]
    wanted = tasks
    if body.get("outputs") is not None:
        asked = body["outputs"]
        if not isinstance(asked, list) or not all(isinstance(one, dict) and one.get("name") in tasks for one in asked):
            raise _wrong(f"outputs: must be a list of objects with a name, of {', '.join(tasks)}", "outputs")
        wanted = [one["name"] for one in asked] or tasks
    found = [
        {
            "name": task,
            "datatype": "FP32",
            "shape": [len(scores)],
            "data": np.ascontiguousarray(scores[:, tasks.index(task)]),
        }
        for task in wanted
    ]
    content: dict[str, Any] = {"model_name": served.name, "model_version": served.version, "outputs": found}
    if served.newest is not None:
        content["parameters"] = {"delta": served.newest}
    if isinstance(body.get("id"), str):
        content["id"] = body["id"]
    return content


def check_id(body: Mapping[str, Any]) -> None:
    """Raises Refused where the request's own id is no text, or a long one."""
    found = body.get("id")
    if found is not None and (not isinstance(found, str) or len(found) > 256):
        raise _wrong("id: must be text of at most 256 characters", "id")


def _wrong(message: str, field: str) -> Refused:
    return Refused(400, "bad_request", message, field=field[:80])
