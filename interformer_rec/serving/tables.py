"""Table rows of an artefact. In: a safetensors file on this machine, row numbers; out: float32 vectors, read from a memory map.

A form says how a row is stored: fp32, fp16, or int8, a byte a number with a scale and a bias for each row (x = byte * scale + bias). Only
the pages of rows that are asked for are read, so tables may be larger than memory. Legend: N rows asked for, w floats a row.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from interformer_rec.errors import DamagedError

Form = Literal["fp32", "fp16", "int8"]
FORMS: tuple[Form, ...] = get_args(Form)
_TYPES = {"F32": np.float32, "F16": np.float16, "U8": np.uint8}
_DEEPEST_HEADER = 1 << 20  # bytes; a table has three tensors at most


class MappedTable:
    """One table; `take` is what a lookup reads."""

    def __init__(self, path: Path, form: Form, rows: int, width: int) -> None:
        """Raises DamagedError where the file is not such a table."""
        found = _mapped(path)
        kind = {"fp32": np.float32, "fp16": np.float16, "int8": np.uint8}[form]
        wanted: dict[str, tuple[tuple[int, ...], type]] = {"weight": ((rows, width), kind)}
        if form == "int8":
            wanted |= {"scale": ((rows,), np.float32), "bias": ((rows,), np.float32)}
        if {name: (array.shape, array.dtype.type) for name, array in found.items()} != wanted:
            raise DamagedError(f"{str(path)!r} is no {form} table of {rows} rows of {width} floats")
        self.rows, self.width, self.form = rows, width, form
        self._weight, self._scale, self._bias = found["weight"], found.get("scale"), found.get("bias")

    def take(self, rows: np.ndarray) -> np.ndarray:
        """(N,) -> (N, w) float32. Raises IndexError for a row that the table does not have."""
        if rows.size and int(rows.min()) < 0:
            raise IndexError(f"row {int(rows.min())} of a table")
        taken = self._weight.take(rows, axis=0)
        if self._scale is None or self._bias is None:
            return taken if taken.dtype == np.float32 else taken.astype(np.float32)
        return taken * self._scale.take(rows)[:, None] + self._bias.take(rows)[:, None]


def _mapped(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file as read-only maps. Raises DamagedError."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(_DEEPEST_HEADER, size - 8):
                raise ValueError(f"its header is said to have {length} bytes")
            header = json.loads(file.read(length))
        found = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            shape, kind = tuple(entry["shape"]), np.dtype(_TYPES[entry["dtype"]])
            if not 0 <= begin <= end <= size - 8 - length or end - begin != int(np.prod(shape)) * kind.itemsize:
                raise ValueError(f"{name} lies outside of it")
            whole = np.zeros(shape, kind) if begin == end else np.memmap(path, kind, "r", 8 + length + begin, shape)
            found[name] = whole.view(np.ndarray)
        return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise DamagedError(f"{str(path)!r} cannot be read as a table: {error}") from None
