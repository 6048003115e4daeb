"""Raw ids -> rows of an embedding table. In: integers or strings as Arrow decoded them; out: rows (0 missing, 1 unknown, then ids).

What dates, decimals and the like are as ids: id_values.py. The hash of `ids: hash`, which must never change: an integer is taken as 64
bits (two's complement) through splitmix64's finaliser (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014);
a string as the first 8 bytes, little endian, of BLAKE2b (RFC 7693, digest size 8) of its UTF-8 bytes; the row is the hash modulo
num_embeddings, after the missing row.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

import numpy as np
import pyarrow as pa

from interformer_rec.config.features import MISSING_ROW, UNKNOWN_ROW, Table
from interformer_rec.errors import InputError

# A vocabulary is looked up directly, in a table with an entry for every possible id from 0 (or the smallest) to the largest, if there
# are at most SMALL_SPAN of them, or at most SPREAD times as many as ids and LARGE_SPAN; else by hashing, which takes 3 times as long.
SMALL_SPAN, LARGE_SPAN, SPREAD = 1 << 24, 1 << 27, 16
CHUNK = 1 << 15  # ids looked up at a time, so that numpy's intermediate copies stay in the cache
BITS_64 = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio


class RowMap(Protocol):
    """Raw ids of one table -> its rows, in the smallest integer type that holds them. Nulls are the caller's."""

    type: np.dtype  # of the rows

    def ints(self, ids: np.ndarray) -> np.ndarray:
        """(n,) rows of integer ids of any integer type."""

    def strings(self, ids: pa.Array) -> np.ndarray:
        """(n,) rows of strings, usually the distinct ones of a column."""

    def texts(self, ids: list[str]) -> np.ndarray:
        """(n,) rows of strings that are Python's already."""

    def row_of_int(self, id_: int) -> int:
        """As `ints` of one int64 that is not outside, in a fraction of the time."""

    def row_of_text(self, id_: str) -> int:
        """As `texts` of one string."""

    def outside(self, ids: np.ndarray) -> np.ndarray | None:
        """Mask of integer ids that the table cannot hold; None if it holds all of them."""


def row_map(name: str, table: Table, vocabulary: pa.Array | None = None) -> RowMap:
    """The map of a table; a vocab table needs its fitted vocabulary (row of the k-th id: special_rows + k; null: nobody's row)."""
    if table.ids == "vocab":
        assert vocabulary is not None, f"vocab table {name!r} has no fitted vocabulary"
        return VocabMap(name, vocabulary)
    assert table.num_embeddings is not None
    return HashMap(table.num_embeddings) if table.ids == "hash" else IdentityMap(name, table.num_embeddings)


def row_type(rows: int) -> np.dtype:
    """The smallest type for rows 0 .. rows-1."""
    return np.dtype(next(t for t in (np.uint8, np.uint16, np.int32, np.int64) if rows - 1 <= np.iinfo(t).max))


class HashMap:
    """Hash modulo the table's size: unseen ids need no fitting, some ids share a row."""

    def __init__(self, num_embeddings: int) -> None:
        self._size, self._modulus, self.type = np.uint64(num_embeddings), num_embeddings, row_type(num_embeddings + 1)

    def ints(self, ids: np.ndarray) -> np.ndarray:
        """As RowMap.ints."""
        return self._rows(splitmix64(ids))

    def strings(self, ids: pa.Array) -> np.ndarray:
        """As RowMap.strings."""
        return self._rows(hash_strings(ids))

    def texts(self, ids: list[str]) -> np.ndarray:
        """As RowMap.texts."""
        return self._rows(_hashes([text.encode() for text in ids]))

    def row_of_int(self, id_: int) -> int:
        """As RowMap.row_of_int."""
        return _splitmix64_of_one(id_) % self._modulus + MISSING_ROW + 1

    def row_of_text(self, id_: str) -> int:
        """As RowMap.row_of_text."""
        return int.from_bytes(_digest(id_.encode()), "little") % self._modulus + MISSING_ROW + 1

    def _rows(self, hashes: np.ndarray) -> np.ndarray:
        return (hashes % self._size + np.uint64(MISSING_ROW + 1)).astype(self.type)

    def outside(self, ids: np.ndarray) -> np.ndarray | None:
        """As RowMap.outside."""
        return None


class IdentityMap:
    """Ids are rows already, 0 .. num_embeddings-1, but for the missing row."""

    def __init__(self, name: str, num_embeddings: int) -> None:
        self._name, self._size, self.type = name, num_embeddings, row_type(num_embeddings + 1)

    def ints(self, ids: np.ndarray) -> np.ndarray:
        """As RowMap.ints."""
        return ids.astype(self.type) + self.type.type(MISSING_ROW + 1)

    def strings(self, ids: pa.Array) -> np.ndarray:
        """As RowMap.strings."""
        raise self._takes_integers()

    def texts(self, ids: list[str]) -> np.ndarray:
        """As RowMap.texts."""
        raise self._takes_integers()

    def row_of_int(self, id_: int) -> int:
        """As RowMap.row_of_int."""
        return id_ + MISSING_ROW + 1

    def row_of_text(self, id_: str) -> int:
        """As RowMap.row_of_text."""
        raise self._takes_integers()

    def _takes_integers(self) -> InputError:
        return InputError(f"table {self._name!r} has ids: identity, which takes integers; use ids: vocab or hash")

    def outside(self, ids: np.ndarray) -> np.ndarray | None:
        """As RowMap.outside."""
        if not len(ids) or (ids.min() >= 0 and ids.max() < self._size):
            return None
        return (ids < 0) | (ids >= self._size)


class VocabMap:
    """Place in a fitted list of distinct ids, which may have nulls; others get the unknown row."""

    def __init__(self, name: str, vocabulary: pa.Array) -> None:
        self._name, self.type = name, row_type(len(vocabulary) + UNKNOWN_ROW + 1)
        self._strings: dict[str, int] | None = None
        self._lookup: _Direct | _Hashed | None = None
        rows = np.arange(UNKNOWN_ROW + 1, UNKNOWN_ROW + 1 + len(vocabulary))
        if vocabulary.null_count:  # of a growing table: rows without an id
            rows = rows[vocabulary.is_valid().to_numpy(zero_copy_only=False)]
            vocabulary = vocabulary.drop_null()
        if not len(vocabulary):  # all that come are unknown, of whichever kind
            self._strings, vocabulary = {}, pa.array([], pa.int64())
        elif not pa.types.is_integer(vocabulary.type):
            self._strings = dict(zip(vocabulary.to_pylist(), rows.tolist(), strict=True))
            return
        ids = vocabulary.to_numpy().astype(np.int64)
        low, high = (min(int(ids.min()), 0), int(ids.max())) if len(ids) else (0, 0)
        direct = high - low < max(SMALL_SPAN, min(LARGE_SPAN, SPREAD * len(ids)))
        self._lookup = _Direct(ids, rows, low, high, self.type) if direct else _Hashed(ids, rows, self.type)

    def ints(self, ids: np.ndarray) -> np.ndarray:
        """As RowMap.ints."""
        lookup = self._integers()
        out = np.empty(len(ids), self.type)
        for start in range(0, len(ids), CHUNK):
            lookup.rows(ids[start : start + CHUNK], out[start : start + CHUNK])
        return out

    def strings(self, ids: pa.Array) -> np.ndarray:
        """As RowMap.strings."""
        return self.texts(ids.to_pylist())

    def texts(self, ids: list[str]) -> np.ndarray:
        """As RowMap.texts."""
        find = self._texts().get
        return np.array([find(text, UNKNOWN_ROW) for text in ids], self.type)

    def row_of_int(self, id_: int) -> int:
        """As RowMap.row_of_int."""
        return self._integers().row(id_)

    def row_of_text(self, id_: str) -> int:
        """As RowMap.row_of_text."""
        return self._texts().get(id_, UNKNOWN_ROW)

    def _integers(self) -> _Direct | _Hashed:
        if self._lookup is None:
            raise InputError(f"table {self._name!r} was fitted on strings, and now gets integers")
        return self._lookup

    def _texts(self) -> dict[str, int]:
        if self._strings is None:
            raise InputError(f"table {self._name!r} was fitted on integers, and now gets strings")
        return self._strings

    def outside(self, ids: np.ndarray) -> np.ndarray | None:
        """As RowMap.outside."""
        return None


class _Direct:
    """A table with a row for every possible id between the smallest and the largest."""

    def __init__(self, ids: np.ndarray, rows: np.ndarray, low: int, high: int, type_: np.dtype) -> None:
        # One more entry after the largest id: mode="clip" sends all larger ones there.
        self._low = low
        self._table = np.full(high - low + 2, UNKNOWN_ROW, type_)
        self._table[ids - low] = rows

    def rows(self, ids: np.ndarray, out: np.ndarray) -> None:
        if self._low == 0 and ids.dtype == np.int32:
            self._table.take(ids.view(np.uint32), mode="clip", out=out)  # ids below 0 are beyond the end: one pass less
            return
        # The difference to a far larger id wraps round to below 0, which is the unknown row as well.
        places = ids if self._low == 0 else np.subtract(ids, self._low, dtype=np.int64)
        self._table.take(places, mode="clip", out=out)
        if places.dtype.kind == "i" and places.min() < 0:
            out[places < 0] = UNKNOWN_ROW

    def row(self, id_: int) -> int:
        """Of one id."""
        place = id_ - self._low
        return int(self._table.item(place)) if 0 <= place < len(self._table) else UNKNOWN_ROW


class _Hashed:
    """Open addressing with linear probing, in numpy: for ids spread so widely that a direct table would be too large."""

    def __init__(self, ids: np.ndarray, rows: np.ndarray, type_: np.dtype) -> None:
        bits = max(4, (8 * len(ids) - 1).bit_length())  # at most an eighth full: few ids need a second probe
        self._shift, self._mask = np.uint64(64 - bits), np.int64((1 << bits) - 1)
        self._id_of_row = np.zeros(int(rows.max()) + 1, np.int64)
        self._id_of_row[rows] = ids
        self._rows = np.full(self._mask + 1, UNKNOWN_ROW, type_)
        slots = self._slots(ids)
        while len(rows):
            free = self._rows[slots] == UNKNOWN_ROW
            self._rows[slots[free]] = rows[free]
            lost = self._rows[slots] != rows  # taken before, or by another id just now (the last writer has it)
            rows, slots = rows[lost], (slots[lost] + 1) & self._mask

    def _slots(self, ids: np.ndarray) -> np.ndarray:
        """Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4): the top bits of a product."""
        slots = ids.view(np.uint64) * np.uint64(GOLDEN)
        slots >>= self._shift
        return slots.view(np.int64)

    def rows(self, ids: np.ndarray, out: np.ndarray) -> None:
        ids = ids.astype(np.int64, copy=False)
        slots = self._slots(ids)
        self._rows.take(slots, mode="clip", out=out)
        pending = np.flatnonzero((self._id_of_row.take(out, mode="clip") != ids) & (out != UNKNOWN_ROW))
        slots = slots[pending]
        while len(pending):  # another id sits there: it is in one of the next slots, or unknown at the first free one
            slots = (slots + 1) & self._mask
            found = self._rows[slots]
            out[pending] = found
            further = (self._id_of_row[found] != ids[pending]) & (found != UNKNOWN_ROW)
            pending, slots = pending[further], slots[further]

    def row(self, id_: int) -> int:
        """Of one id."""
        slot = (id_ * GOLDEN & BITS_64) >> int(self._shift)
        while (row := int(self._rows.item(slot))) != UNKNOWN_ROW and self._id_of_row.item(row) != id_:
            slot = (slot + 1) & int(self._mask)
        return row


def splitmix64(ids: np.ndarray) -> np.ndarray:
    """(n,) uint64 hashes of integers of any type; the same value hashes alike in every type."""
    z = ids.astype(np.int64 if ids.dtype.kind == "i" else np.uint64).view(np.uint64)
    z += np.uint64(GOLDEN)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def _splitmix64_of_one(id_: int) -> int:
    z = (id_ + GOLDEN) & BITS_64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & BITS_64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & BITS_64
    return z ^ (z >> 31)


def hash_strings(ids: pa.Array) -> np.ndarray:
    """(n,) uint64 hashes of strings without nulls; a Python step per string, so give it the distinct ones."""
    return _hashes(ids.cast(pa.large_binary()).to_pylist())


def _hashes(texts: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(map(_digest, texts)), "<u8").astype(np.uint64)


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=8).digest()
