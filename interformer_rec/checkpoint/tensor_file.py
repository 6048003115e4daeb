"""Tensors of any size to and from safetensors files, a piece at a time. In: tensors and a Storage; out: a file and checksums, or rows.

safetensors' own writer wants every tensor whole, contiguous and on the host, and a local path; its reader wants a local file. The
format is simple: 8 bytes length of the header, the header as JSON, the tensors' bytes. Here neither side holds more than
three pieces of `PIECE` bytes; every piece has a checksum in the manifest that is compared when it is read.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from interformer_rec.checkpoint.checked import PIECE, Checked, Verified
from interformer_rec.errors import DamagedError
from interformer_rec.files import LARGEST_JSON, json_object
from interformer_rec.storage import Storage, patiently

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_FIELDS = {"dtype", "shape", "data_offsets"}
MOST_ROWS = 1 << 40
NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Part:
    """What is written under a key: a tensor, or some of its rows."""

    tensor: torch.Tensor
    rows: torch.Tensor | None = None  # (n,) int64

    @property
    def shape(self) -> tuple[int, ...]:
        """As stored."""
        return (
            (len(self.rows) if self.rows is not None else self.tensor.shape[0], *self.tensor.shape[1:])
            if (self.tensor.ndim)
            else ()
        )

    @property
    def nbytes(self) -> int:
        """As stored."""
        return torch.Size(self.shape).numel() * self.tensor.element_size()

    def on_host(self, into: torch.Tensor | None = None) -> Part:
        """A copy in host memory that training will not change; `into`: memory of an earlier copy to use again."""
        live = self.tensor.detach() if self.rows is None else self.tensor.detach()[self.rows]
        if into is not None and into.shape == live.shape and into.dtype == live.dtype:
            return Part(into.copy_(live))
        return Part(live.to("cpu", copy=True, memory_format=torch.contiguous_format))

    def pieces(self) -> Iterator[memoryview]:
        """The bytes, row by row, at most `PIECE` at a time (or one row); each is good until the next is asked for."""
        tensor = self.tensor.detach()
        if tensor.ndim == 0:
            tensor = tensor.reshape(1)
        if tensor.numel() == 0 or self.shape[:1] == (0,):
            return
        step = max(1, PIECE // (tensor[0].numel() * tensor.element_size()))
        buffer: torch.Tensor | None = None  # one for all pieces: fresh memory for each would stay with the allocator
        for start in range(0, self.shape[0] if self.shape else 1, step):
            live = tensor[start : start + step] if self.rows is None else tensor[self.rows[start : start + step]]
            if live.device.type != "cpu" or not live.is_contiguous():
                buffer = torch.empty(live.shape, dtype=live.dtype) if buffer is None else buffer
                live = buffer[: len(live)].copy_(live)
            yield live.view(torch.uint8).numpy().data.cast("B")


def write(
    storage: Storage, name: str, parts: Mapping[str, Part], beat: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Write `parts` as a safetensors file; returns its entry for the manifest. Memory: one piece. `beat` is called once a piece.

    Raises OSError.
    """
    header: dict[str, Any] = {}
    end = 0
    # Widest type first, so that every tensor begins at a multiple of its element size.
    ordered = sorted(parts, key=lambda key: -parts[key].tensor.element_size())
    for key in ordered:
        part = parts[key]
        begin, end = end, end + part.nbytes
        header[key] = {"dtype": NAMES[part.tensor.dtype], "shape": list(part.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)

    def once() -> dict[str, Any]:
        with storage.create(name) as file:
            checked = Checked(file, beat)
            checked.write(struct.pack("<Q", len(text)) + text)
            for key in ordered:
                for piece in parts[key].pieces():
                    checked.write(piece)
        return checked.entry()

    return patiently(once)


class TensorFile:
    """A safetensors file, read row by row."""

    def __init__(self, storage: Storage, name: str, entry: dict[str, Any]) -> None:
        """Reads the header. Raises DamagedError."""
        self._bytes = Verified(storage, name, entry)
        self._where = storage.folder(name).location
        (length,) = struct.unpack("<Q", self._bytes.read(0, 8))
        self._start = 8 + length
        if length > min(LARGEST_JSON, entry["bytes"] - 8):
            raise DamagedError(f"{self._where} cannot be read: its header is said to have {length:,} bytes")
        header = json_object(bytes(self._bytes.read(8, self._start)), self._where)
        header.pop("__metadata__", None)
        left = entry["bytes"] - self._start
        self._stored = {key: _stored(key, value, left, self._where) for key, value in header.items()}

    def keys(self) -> list[str]:
        """Names of the tensors."""
        return list(self._stored)

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of a tensor. Raises DamagedError if there is none of that name."""
        return self._tensor(key).shape

    def dtype(self, key: str) -> torch.dtype:
        """Type of a tensor. Raises DamagedError if there is none of that name."""
        return self._tensor(key).dtype

    def _tensor(self, key: str) -> _Stored:
        if key not in self._stored:
            raise DamagedError(f"{self._where} lacks the tensor {key!r}")
        return self._stored[key]

    def rows(self, key: str, start: int, stop: int) -> Iterator[tuple[int, torch.Tensor]]:
        """Rows start .. stop-1 in pieces: (first row, tensor). Raises DamagedError."""
        stored = self._tensor(key)
        shape, dtype = stored.shape, stored.dtype
        stride = torch.Size(shape[1:]).numel() * dtype.itemsize
        base = self._start + stored.begin
        step = max(1, PIECE // max(1, stride))
        for first in range(start, stop, step):
            last = min(stop, first + step)
            if stride:
                content = self._bytes.read(base + first * stride, base + last * stride)
                yield first, torch.frombuffer(content, dtype=dtype).view(last - first, *shape[1:])

    def take(self, key: str, rows: np.ndarray) -> torch.Tensor:
        """Some rows (n,), ascending: of a file on this machine they alone are read, and compared with no checksum. Raises DamagedError."""
        stored = self._tensor(key)
        stride = torch.Size(stored.shape[1:]).numel() * stored.dtype.itemsize
        found = torch.empty(len(rows), *stored.shape[1:], dtype=stored.dtype)
        if not len(rows) or not stride:
            return found
        if (path := self._bytes.path) is not None:
            whole = np.memmap(path, np.uint8, "r", self._start + stored.begin, (stored.shape[0], stride))
            return torch.from_numpy(whole[rows]).view(stored.dtype).view(found.shape)
        step = max(1, PIECE // stride)
        for group in np.split(rows, np.flatnonzero(np.diff(rows // step)) + 1):
            first = int(group[0])
            content = self._bytes.read(
                *(self._start + stored.begin + row * stride for row in (first, int(group[-1]) + 1))
            )
            values = torch.frombuffer(content, dtype=stored.dtype).view(-1, *stored.shape[1:])
            at = int(np.searchsorted(rows, first))
            found[at : at + len(group)] = values[torch.from_numpy(group - first)]
        return found

    def tensor(self, key: str) -> torch.Tensor:
        """A whole tensor. Raises DamagedError."""
        stored = self._tensor(key)
        shape, dtype = stored.shape, stored.dtype
        if 0 in shape:
            return torch.empty(shape, dtype=dtype)
        content = self._bytes.read(self._start + stored.begin, self._start + stored.end)
        return torch.frombuffer(content, dtype=dtype).view(shape)


@dataclass(frozen=True)
class _Stored:
    """Where a tensor lies, counted from the end of the header."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


def _stored(key: str, value: Any, left: int, where: str) -> _Stored:
    """A line of the header of a file that has `left` bytes behind it. Raises DamagedError."""
    fields = value if isinstance(value, dict) else {}
    dtype = DTYPES.get(fields["dtype"]) if isinstance(fields.get("dtype"), str) else None
    shape, offsets = (_sizes(fields.get(name)) for name in ("shape", "data_offsets"))
    if dtype is None or shape is None or offsets is None or len(offsets) != 2 or fields.keys() != _FIELDS:
        raise DamagedError(f"{where} cannot be read: its header has {key!r:.80} as {value!r:.80}")
    begin, end = offsets
    if end > left or end - begin != math.prod(shape) * dtype.itemsize or max(shape, default=0) > MOST_ROWS:
        raise DamagedError(
            f"{where} cannot be read: {key!r:.80} of shape {shape!r:.80} lies at {begin} to {end} of {left}"
        )
    return _Stored(dtype, shape, begin, end)


def _sizes(values: Any) -> tuple[int, ...] | None:
    """Integers from 0 on, as JSON has them; None for anything else."""
    fits = isinstance(values, list) and len(values) <= 8 and all(type(value) is int and value >= 0 for value in values)
    return tuple(values) if fits else None
