"""Parquet footers taken apart and put together again (Thrift's compact protocol), so that a test can change any number in one.

In: the bytes of a Parquet file and changes `path: value`; out: the bytes of the changed file. A path names the ids of Thrift fields and
places in lists: "4.0.3" is FileMetaData.row_groups[0].num_rows.
"""

from __future__ import annotations

import struct
from typing import Any

TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, SET, STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
INTEGERS = (4, 5, 6)
CUT = "cut"  # instead of a value: a list loses its last element


def with_changes(file: bytes, changes: dict[str, Any]) -> bytes:
    """The file with numbers or strings of its footer changed."""
    size = struct.unpack("<I", file[-8:-4])[0]
    footer = _Reader(file[-8 - size : -8]).read(STRUCT)
    for path, value in changes.items():
        *parents, last = map(int, path.split("."))
        node: Any = footer
        for part in parents:
            node = node[part][1] if isinstance(node, dict) else node[1][part]
        if value == CUT:
            node[last][1][1].pop()  # the last of a list
        elif isinstance(node, dict):
            node[last] = value if isinstance(value, tuple) else (node[last][0], value)
        else:
            node[1][last] = value
    changed = _write(STRUCT, footer)
    return file[: -8 - size] + changed + struct.pack("<I", len(changed)) + file[-4:]


class _Reader:
    """Structs as {field id: (type, value)}, lists as (type, [values])."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, kind: int) -> Any:
        if kind in INTEGERS:
            number = self._varint()
            return (number >> 1) ^ -(number & 1)
        if kind == BINARY:
            return self._take(self._varint())
        if kind in (BYTE, TRUE, FALSE):
            return self._take(1)[0]
        if kind == DOUBLE:
            return self._take(8)
        if kind in (LIST, SET):
            head = self._take(1)[0]
            count = self._varint() if head >> 4 == 15 else head >> 4
            return head & 15, [self.read(head & 15) for _ in range(count)]
        assert kind == STRUCT, kind
        fields: dict[int, tuple[int, Any]] = {}
        last = 0
        while (head := self._take(1)[0]) != 0:
            last = last + (head >> 4) if head >> 4 else self.read(4)
            inner = head & 15
            fields[last] = (inner, None if inner in (TRUE, FALSE) else self.read(inner))
        return fields

    def _take(self, count: int) -> bytes:
        self._at += count
        return self._data[self._at - count : self._at]

    def _varint(self) -> int:
        number = shift = 0
        while True:
            byte = self._take(1)[0]
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _write(kind: int, value: Any) -> bytes:
    if kind in INTEGERS:
        return _varint((value << 1) ^ (value >> 63))
    if kind == BINARY:
        value = value.encode() if isinstance(value, str) else value
        return _varint(len(value)) + value
    if kind in (BYTE, TRUE, FALSE):
        return bytes([value])
    if kind == DOUBLE:
        return value
    if kind in (LIST, SET):
        inner, values = value
        return bytes([0xF0 | inner]) + _varint(len(values)) + b"".join(_write(inner, one) for one in values)
    out = b""
    last = 0
    for field, (inner, content) in sorted(value.items()):
        gap = field - last
        out += bytes([gap << 4 | inner]) if 0 < gap < 16 else bytes([inner]) + _write(4, field)
        out += b"" if inner in (TRUE, FALSE) else _write(inner, content)
        last = field
    return out + b"\0"
