"""Table rows of an artefact. In: a safetensors file on this machine, row numbers; out: float32 vectors, read from a memory map.

A form says how a row is stored: fp32, fp16, or int8, a byte a number with a scale and a bias for each row (x = byte * scale + bias). Only
the pages of rows that are asked for are read, so tables may be larger than memory. All tables of one width lie in one file, so that one
read serves many features. Legend: w floats a row.
"""

import json
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from interformer_rec.errors import DamagedError

Form = Literal["fp32", "fp16", "int8"]
FORMS: tuple[Form, ...] = get_args(Form)
_TYPES = {"F32": np.float32, "F16": np.float16, "U8": np.uint8, "I64": np.int64}
_DEEPEST_HEADER = 1 << 20  # bytes; a table has three tensors at most


class TableFile:
    """The rows of one file: of a table, or of several tables of one width, one after another."""

    def __init__(self, path: Path, form: Form, rows: int, width: int) -> None:
        """Raises DamagedError where the file does not hold so many rows."""
        found = mapped(path)
        kind = {"fp32": np.float32, "fp16": np.float16, "int8": np.uint8}[form]
        wanted: dict[str, tuple[tuple[int, ...], type]] = {"weight": ((rows, width), kind)}
        if form == "int8":
            wanted |= {"scale": ((rows,), np.float32), "bias": ((rows,), np.float32)}
        if {name: (array.shape, array.dtype.type) for name, array in found.items()} != wanted:
            raise DamagedError(f"{str(path)!r} is no {form} table of {rows} rows of {width} floats")
        self.rows, self.width, self.form = rows, width, form
        self._weight, self._scale, self._bias = found["weight"], found.get("scale"), found.get("bias")

    def take(self, rows: np.ndarray) -> np.ndarray:
        """(...) -> (..., w) float32. The caller has checked that the file has these rows."""
        taken = self._weight.take(rows, axis=0)
        if self._scale is None or self._bias is None:
            return taken if taken.dtype == np.float32 else taken.astype(np.float32)
        found = taken * self._scale.take(rows)[..., None]
        found += self._bias.take(rows)[..., None]
        return found


@dataclass(frozen=True)
class MappedTable:
    """Rows first .. first + rows - 1 of a file."""

    file: TableFile
    first: int
    rows: int

    @property
    def width(self) -> int:
        """Floats a row."""
        return self.file.width

    def take(self, rows: np.ndarray) -> np.ndarray:
        """(...) -> (..., w) float32. Raises IndexError for a row that the table does not have."""
        check_rows_of(rows, self.rows)
        return self.file.take(rows + self.first)


def check_rows_of(rows: np.ndarray, limits: np.ndarray | int) -> None:
    """Raises IndexError for a row below 0, or not below its limit."""
    wrong = rows.view(np.uint64) >= np.asarray(limits, np.uint64)  # a negative number is a very large one
    if wrong.any():
        raise IndexError(f"row {rows[wrong][0]} of a table")


def mapped(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file as read-only maps. Raises DamagedError."""
    try:
        with path.open("rb") as file:
            whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        size = len(whole)
        (length,) = struct.unpack("<Q", whole[:8])
        if length > min(_DEEPEST_HEADER, size - 8):
            raise ValueError(f"its header is said to have {length} bytes")
        header = json.loads(whole[8 : 8 + length])
        found = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            shape, kind = tuple(entry["shape"]), np.dtype(_TYPES[entry["dtype"]])
            count = int(np.prod(shape))
            if not 0 <= begin <= end <= size - 8 - length or end - begin != count * kind.itemsize:
                raise ValueError(f"{name} lies outside of it")
            found[name] = np.frombuffer(whole, kind, count, 8 + length + begin).reshape(shape)
        return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise DamagedError(f"{str(path)!r} cannot be read as a table: {error}") from None
