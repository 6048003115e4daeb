"""The column chunks of a Parquet file: how many values, how large, which encodings. In: a footer; out: a Chunk per row group and column.

pyarrow's own `row_group(i).column(j)` ends the process where a footer is damaged or columns are encrypted (a C++ exception that nothing
catches), so the footer's bytes are read here (Thrift's compact protocol; field ids as in parquet.thrift).
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

PLAIN_DICTIONARY, DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY, RLE_DICTIONARY = 2, 6, 7, 8  # of parquet.thrift's Encoding
_BOOLEANS, _BYTE, _DOUBLE, _BINARY, _LISTS, _STRUCT, _UUID = (1, 2), 3, 7, 8, (9, 10), 12, 13

T = TypeVar("T")
MAGIC, TAIL = b"PAR1", 1 << 16  # at both ends of a file; bytes that are read of its end at once


class Chunk(NamedTuple):
    """A column of a row group, as its footer describes it."""

    values: int  # nulls and empty lists included
    uncompressed: int  # bytes
    compressed: int  # bytes
    encodings: tuple[int, ...]


def read_footer(handle: pa.NativeFile) -> bytes:
    """The bytes of a file's footer, in one request or two. Raises pa.ArrowInvalid if there is none."""
    size = handle.size()
    tail = handle.read_at(min(size, TAIL), max(0, size - TAIL))
    if tail[-4:] != MAGIC:
        encrypted = tail[-4:] == b"PARE"
        raise pa.ArrowInvalid("its footer is encrypted" if encrypted else "Parquet's mark PAR1 is not at its end")
    length = int.from_bytes(tail[-8:-4], "little")
    if not 0 < length <= size - 12:
        raise pa.ArrowInvalid(f"its last bytes say that the footer is {length:,} bytes, and the file has {size:,}")
    if length + 8 > len(tail):
        return bytes(handle.read_at(length, size - 8 - length))
    return bytes(tail[-8 - length : -8])


def metadata_of(footer: bytes) -> pq.FileMetaData:
    """What Arrow makes of a footer. Raises pa.ArrowException or OSError."""
    length = len(footer).to_bytes(4, "little")
    return pq.read_metadata(pa.BufferReader(MAGIC + footer + length + MAGIC))


def chunks(footer: bytes) -> list[list[Chunk]]:
    """Row group by row group, column by column, of a footer that Arrow could read. Raises pa.ArrowInvalid."""
    try:
        return _Reader(footer).file()
    except (IndexError, KeyError, RecursionError):
        raise pa.ArrowInvalid("its footer is damaged") from None


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def file(self) -> list[list[Chunk]]:
        return self._listed(4, self._row_group)

    def _row_group(self) -> list[Chunk]:
        return self._listed(1, self._chunk)

    def _listed(self, wanted: int, read: Callable[[], T]) -> list[T]:
        """The elements of the one field, a list, of a struct."""
        found: list[T] = []
        for field, kind in self._fields():
            if field == wanted and kind in _LISTS:
                found = [read() for _ in range(self._list()[0])]
            else:
                self._skip(kind)
        return found

    def _chunk(self) -> Chunk:
        found = Chunk(0, 0, 0, ())
        for field, kind in self._fields():
            if field == 3 and kind == _STRUCT:
                found = self._metadata()
            else:
                self._skip(kind)
        return found

    def _metadata(self) -> Chunk:
        numbers: dict[int, int] = {5: 0, 6: 0, 7: 0}
        encodings: tuple[int, ...] = ()
        for field, kind in self._fields():
            if field in numbers:
                numbers[field] = self._integer()
            elif field == 2 and kind in _LISTS:
                encodings = tuple(self._integer() for _ in range(self._list()[0]))
            else:
                self._skip(kind)
        return Chunk(numbers[5], numbers[6], numbers[7], encodings)

    def _fields(self) -> Iterator[tuple[int, int]]:
        """(id, type) of the fields of a struct; who takes one reads it before the next."""
        field = 0
        while head := self._data[self._at]:
            self._at += 1
            step = head >> 4
            field = field + step if step else self._integer()
            yield field, head & 15
        self._at += 1

    def _list(self) -> tuple[int, int]:
        """(count, type of the elements)."""
        head = self._data[self._at]
        self._at += 1
        return self._varint() if head >> 4 == 15 else head >> 4, head & 15

    def _varint(self) -> int:
        data, at = self._data, self._at
        number = data[at]
        at += 1
        if number > 127:
            number &= 127
            shift = 7
            while True:
                byte = data[at]
                at += 1
                number |= (byte & 127) << shift
                if byte < 128:
                    break
                shift += 7
        self._at = at
        return number

    def _integer(self) -> int:
        number = self._varint()
        return (number >> 1) ^ -(number & 1)

    def _skip(self, kind: int) -> None:
        if kind == _STRUCT:
            for _, inner in self._fields():
                self._skip(inner)
        elif kind == _BINARY:
            size = self._varint()
            self._at += size
        elif kind in _LISTS:
            count, inner = self._list()
            if inner in _BOOLEANS:
                self._at += count
                return
            for _ in range(count):
                self._skip(inner)
        elif kind in (_BYTE, _DOUBLE, _UUID):
            self._at += {_BYTE: 1, _DOUBLE: 8, _UUID: 16}[kind]
        elif kind not in _BOOLEANS:
            self._varint()
