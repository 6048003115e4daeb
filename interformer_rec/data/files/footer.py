"""What a Parquet footer says about decoding: how large the columns get, which strings can be dictionaries. In: a footer; out: a Reading.

A few thousand bytes can hold a list of a billion zeros, or a long string a million times, so sizes are looked at before memory is taken.
Sizes of numbers are known from the footer. Strings that repeat others (encoding DELTA_BYTE_ARRAY, and dictionaries where plain strings are
wanted) are not: these are decoded so that only a part of them can be too large.
"""

import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from interformer_rec.data.chunks import (
    DELTA_BYTE_ARRAY,
    DELTA_LENGTH_BYTE_ARRAY,
    PLAIN_DICTIONARY,
    RLE_DICTIONARY,
    Chunk,
    chunks,
    metadata_of,
    read_footer,
)
from interformer_rec.data.files.unify import is_any_list, leaves

MOST = 1 << 34  # bytes that columns may decode to in one go
# more times its stored size, and more bytes, is what no data set of events has
OUT_OF_PROPORTION, SUSPICIOUS = 1000, 1 << 31
# bytes a value in Arrow, the bytes of strings left out; others: 8
WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "BYTE_ARRAY": 4}
TEXTS = ("NONE", "STRING", "ENUM", "JSON", "BSON")  # logical types that Arrow reads as strings or bytes
LEVELS = 4  # bytes a value of a list for where it begins and whether it is there


class TooLarge(Exception):
    """A column of a row group that decodes to more than is allowed."""

    def __init__(self, group: int, column: str, decoded: int, stored: int, limit: int | None) -> None:
        most = limit or (MOST if decoded > MOST else SUSPICIOUS)
        super().__init__(
            f"it would be at least {decoded:,} bytes in memory, of {stored:,} bytes in the file, more than the limit of {most:,}"
            f"{'' if limit or decoded > MOST else f' for a column of more than {OUT_OF_PROPORTION:,} times its stored size'}. If the "
            "file is what you expect, write smaller row groups, or set data.max_decoded_bytes to what your memory holds"
        )
        self.group, self.column = group, column


class Reading(NamedTuple):
    """How to decode some columns of some row groups of a file."""

    dictionaries: list[str]  # paths to read as dictionaries
    expand: bool  # to plain strings afterwards, once their size is known
    batch_rows: int | None  # decode so many rows at a time and watch the size; None: all at once
    apart: bool  # one row group at a time: Arrow joins no dictionaries that are inside lists


class Footer:
    """Made once per open file; used by several threads."""

    def __init__(self, handle: pa.NativeFile) -> None:
        """Reads the footer. Raises pa.ArrowException, OSError, or UnicodeDecodeError for the name of a column."""
        self._content, self._size = read_footer(handle), handle.size()
        self.metadata = metadata_of(self._content)
        self._leaves: dict[str, list[int]] = {}
        names = [field.name for field in self.metadata.schema.to_arrow_schema() for _ in range(leaves(field.type))]
        for place, name in enumerate(names):
            self._leaves.setdefault(name, []).append(place)
        paths = [self.metadata.schema.column(leaf).path for leaf in range(len(names))]
        self._inside = {path: [leaf] for leaf, path in enumerate(paths) if path not in self._leaves}
        self._fields: dict[str, dict[str, list[str]]] = {}  # of lists of structs: field -> paths
        self._known: dict[tuple[object, ...], Reading] = {}

    @property
    def checksum(self) -> int:
        """Of the footer and the file's size: another one for other rows, as it holds where each column begins and its least and largest
        values; the file's name is no part of it."""
        return zlib.crc32(str(self._size).encode(), zlib.crc32(self._content))

    @cached_property
    def _chunks(self) -> list[list[Chunk]]:
        return chunks(self._content)

    def paths(self, column: str, field: str) -> list[str]:
        """Where a field of a list of structs is stored: paths to read, more than one where the field holds structs itself."""
        if column not in self._fields:
            place = iter(self._leaves[column])
            inside = self.metadata.schema.to_arrow_schema().field(column).type.value_type
            found = {one.name: [next(place) for _ in range(leaves(one.type))] for one in inside}
            schema = self.metadata.schema
            self._fields[column] = {name: [schema.column(leaf).path for leaf in of] for name, of in found.items()}
        return self._fields[column].get(field, [])

    def reading(self, groups: Sequence[int], columns: Sequence[str], strings: bool, limit: int | None) -> Reading:
        """How to decode these columns; `strings`: as dictionaries. Raises TooLarge."""
        key = (*groups, strings, *columns)
        if key not in self._known:
            self._known[key] = self._reading(groups, columns, strings, limit)
        return self._known[key]

    def stored(self, group: int, column: str) -> int:
        """Bytes of a column of a row group in the file."""
        found = sum(self._chunks[group][leaf].compressed for leaf in self._of_column(column))
        return min(found, self._size)

    def _reading(self, groups: Sequence[int], columns: Sequence[str], strings: bool, limit: int | None) -> Reading:
        total, encodings, longest = 0, dict[int, set[int]](), dict[int, int]()
        for group, column, leaf, chunk in self._of(groups, columns):
            schema = self.metadata.schema.column(leaf)
            rows_here = self.metadata.row_group(group).num_rows
            if chunk.values != rows_here and (chunk.values < rows_here or not schema.max_repetition_level):
                raise pa.ArrowInvalid(f"the footer says {rows_here:,} rows and {chunk.values:,} values")
            width = _width(schema) + (LEVELS if schema.max_repetition_level else 0)
            decoded = chunk.values * width
            if schema.physical_type == "BYTE_ARRAY":
                decoded += chunk.uncompressed
            if schema.physical_type == "BYTE_ARRAY" and schema.logical_type.type in TEXTS:
                encodings.setdefault(leaf, set()).update(chunk.encodings)
                expanded = chunk.values * chunk.uncompressed  # no string is longer than all of them
                longest[leaf] = max(longest.get(leaf, 0), expanded)
            total += decoded
            check_size(group, column, decoded, min(chunk.compressed, self._size), limit)
            check_size(group, column, total, self._size, limit, proportion=False)
        rows = sum(self.metadata.row_group(group).num_rows for group in groups)
        return self._strings(encodings, longest, strings, limit, rows, alone=len(groups) == 1)

    def _strings(
        self,
        encodings: dict[int, set[int]],
        longest: dict[int, int],
        strings: bool,
        limit: int | None,
        rows: int,
        alone: bool,
    ) -> Reading:
        most = limit or SUSPICIOUS
        delta = {leaf for leaf, found in encodings.items() if found & {DELTA_BYTE_ARRAY, DELTA_LENGTH_BYTE_ARRAY}}
        large = {leaf for leaf in encodings if longest[leaf] > most}
        repeats = [longest[leaf] for leaf in large if DELTA_BYTE_ARRAY in encodings[leaf]]
        batch_rows = max(1, rows * most // (4 * max(repeats))) if repeats else None
        chosen = [leaf for leaf in encodings if leaf not in delta]  # Arrow has no way from deltas to dictionaries
        if strings:
            chosen = [leaf for leaf in chosen if alone or leaf in large or not self._nested(leaf)]
        else:
            chosen = [leaf for leaf in chosen if leaf in large and encodings[leaf] & {PLAIN_DICTIONARY, RLE_DICTIONARY}]
        paths = [self.metadata.schema.column(leaf).path for leaf in chosen]
        apart = not alone and (batch_rows is not None or any(map(self._nested, chosen)))
        return Reading(paths, not strings and bool(chosen), batch_rows, apart)

    def _nested(self, leaf: int) -> bool:
        return self.metadata.schema.column(leaf).path not in self._leaves

    def _of(self, groups: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, str, int, Chunk]]:
        for group in groups:
            of_group = self._chunks[group]
            if len(of_group) != self.metadata.num_columns:
                raise pa.ArrowInvalid(
                    f"{len(of_group)} columns in row group {group}, {self.metadata.num_columns} in the schema"
                )
            for column in columns:
                for leaf in self._of_column(column):
                    yield group, column, leaf, of_group[leaf]

    def _of_column(self, column: str) -> Sequence[int]:
        """The stored columns of a column, or of the path of one that is inside."""
        return self._leaves.get(column, self._inside.get(column, []))


def _width(schema: pq.ColumnSchema) -> int:
    """Bytes that a value takes in Arrow, those of a string left out."""
    if schema.physical_type == "FIXED_LEN_BYTE_ARRAY":
        return max(schema.length, 8)
    return WIDTHS.get(schema.physical_type, 8)


def check_size(group: int, column: str, decoded: int, stored: int, limit: int | None, proportion: bool = True) -> None:
    """Raises TooLarge. Without a `limit`: beyond MOST, or beyond SUSPICIOUS and out of proportion to what is stored."""
    wild = proportion and decoded > SUSPICIOUS and decoded > OUT_OF_PROPORTION * stored
    if decoded > limit if limit else (decoded > MOST or wild):
        raise TooLarge(group, column, decoded, stored, limit)


def expanded(table: pa.Table, schema: pa.Schema, group: int, footer: Footer, limit: int | None) -> pa.Table:
    """A table with its dictionaries as the plain strings of `schema`. Raises TooLarge before any is made."""
    for name in table.column_names:
        column = table[name]
        plain = _part_of(schema.field(name).type, column.type)
        if column.type.equals(plain):
            continue
        check_size(group, name, sum(map(_string_bytes, column.chunks)), footer.stored(group, name), limit)
        table = table.set_column(table.column_names.index(name), name, column.cast(plain))
    return table


def _part_of(type_: pa.DataType, read: pa.DataType) -> pa.DataType:
    """The type of a list of structs of which only some fields were read; any other as it is."""
    if not (pa.types.is_list(type_) or pa.types.is_large_list(type_)) or not pa.types.is_struct(type_.value_type):
        return type_
    names = [field.name for field in read.value_type]
    kept = pa.struct([field for field in type_.value_type if field.name in names])
    return pa.large_list(kept) if pa.types.is_large_list(type_) else pa.list_(kept)


def _string_bytes(array: pa.Array) -> int:
    """Of all strings in an array, were none a dictionary; lists and structs are looked into."""
    if pa.types.is_dictionary(array.type):
        lengths = pc.binary_length(array.dictionary).cast(pa.int64())
        return pc.sum(lengths.take(array.indices)).as_py() or 0
    if pa.types.is_struct(array.type):
        return sum(_string_bytes(part) for part in array.flatten())
    if pa.types.is_map(array.type):
        return _string_bytes(array.keys) + _string_bytes(array.items)
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
        return _string_bytes(array.flatten())
    return 0


def check_indices(array: pa.Array) -> None:
    """Raises pa.ArrowInvalid where an index leads out of its dictionary: Arrow takes those of a damaged file as they are."""
    if pa.types.is_dictionary(array.type):
        low, high = (scalar.as_py() for scalar in pc.min_max(array.indices).values())
        if high is not None and (low < 0 or high >= len(array.dictionary)):
            raise pa.ArrowInvalid(f"a string is the {high:,}th of a dictionary of {len(array.dictionary):,}")
    elif is_any_list(array.type):
        check_indices(array.values)
    elif pa.types.is_struct(array.type):
        for part in array.flatten():
            check_indices(part)
