"""A data set as its Parquet footers describe it: files, row groups, columns. In: a path or URI; out: Arrow tables of row groups.

Requests to a remote store: per file one to learn its size and one or two for the footer (the footers of all files once, when the source
is opened), then per read the column chunks of the row groups asked for, neighbours joined (Arrow's pre-buffering). No request per column.
"""

import functools
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from interformer_rec.data.files.footer import Footer, TooLarge, check_indices, check_size, expanded
from interformer_rec.data.files.locate import Located, locate
from interformer_rec.data.files.partitions import Keys, keys_of
from interformer_rec.data.files.schemas import FileSchemas
from interformer_rec.data.files.unify import encode
from interformer_rec.errors import InputError

OPEN_FILES = 64  # kept open at once, with their footers
MOST_ROWS = 1 << 40  # of a row group: more is damage
FOOTER_THREADS = 16  # footers read at once: a remote store answers in tens of milliseconds


class _File(NamedTuple):
    """An open file and its footer."""

    handle: pa.NativeFile
    footer: Footer


class _Opened:
    """Open files and their footers, the most recently used ones, shared by the threads that read."""

    def __init__(self, filesystem: fs.FileSystem) -> None:
        self._filesystem = filesystem
        self._files: OrderedDict[str, _File] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: str) -> _File:
        with self._lock:
            if path in self._files:
                self._files.move_to_end(path)
                return self._files[path]
        opened = _open(self._filesystem, path)
        with self._lock:
            self._files[path] = opened
            while len(self._files) > OPEN_FILES:
                self._files.popitem(last=False)  # closed when the last thread that reads it lets go
        return opened


@dataclass(frozen=True, eq=False)
class Source:
    """Sorted files and their row groups. Made by `open_source`; can be pickled (one rank reads the footers, the others get them)."""

    path: str  # as the user wrote it
    filesystem: fs.FileSystem
    files: tuple[str, ...]
    schemas: tuple[pa.Schema, ...]  # of each file, as it is; `columns` is what they have in common
    keys: tuple[Keys, ...]  # of each file: what the names of its folders say (Hive's partitions)
    group_file: np.ndarray  # (row groups,) index into files
    group_index: np.ndarray  # (row groups,) its number inside the file
    group_rows: np.ndarray  # (row groups,) rows
    group_start: np.ndarray  # (row groups,) its first row inside the file
    checksum: int = 0  # of the footers, in the files' order: another one for other rows
    max_decoded_bytes: int | None = None  # that a read may take; None: footer.MOST, or less if out of proportion
    _opened: list[_Opened] = field(default_factory=list, repr=False, compare=False)
    _columns: list[FileSchemas] = field(default_factory=list, repr=False, compare=False)

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return int(self.group_rows.sum())

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_opened": [], "_columns": []}

    @property
    def columns(self) -> FileSchemas:
        """The columns of all files as one schema."""
        if not self._columns:
            self._columns.append(FileSchemas(self.path, self.files, self.schemas, self.keys))
        return self._columns[0]

    def require(self, columns: Sequence[str]) -> pa.Schema:
        """The schema of these columns over all files: a column's type is the widest that any file has. Raises InputError if a file lacks
        one, or two files hold it as types without a common one."""
        return self.columns.require(columns)

    def where(self, group: int) -> str:
        """'file, row group' for messages."""
        return f"{self.files[self.group_file[group]]!r}, row group {self.group_index[group]}"

    def where_row(self, groups: Sequence[int], row: int) -> str:
        """'file, row group, row of the file' for messages; `row` counts inside these row groups, laid end to end."""
        ends = np.cumsum(self.group_rows[list(groups)])
        at = int(np.searchsorted(ends, row, side="right"))
        inside = int(self.group_start[groups[at]]) + row - int(ends[at] - self.group_rows[groups[at]])
        return f"{self.where(groups[at])}, row {inside} of the file (the first is 0)"

    def row_numbers(self, groups: Sequence[int]) -> np.ndarray:
        """(rows,) int64 of these row groups, laid end to end; counted over all files."""
        ends = np.cumsum(self.group_rows)
        return np.concatenate([np.arange(ends[group] - self.group_rows[group], ends[group]) for group in groups])

    def read(self, groups: Sequence[int], columns: Sequence[str], strings: bool = False) -> pa.Table:
        """Decode row groups (indices into `group_*`, ascending) in one thread; rows in that order, columns as given, null where a file
        lacks one.

        With `strings` strings are decoded as dictionaries, in lists too, which saves making a string per row. Raises InputError that
        names the file, the row group and the column that cannot be read.
        """
        wanted = np.asarray(groups)
        schema = None if self.columns.uniform else self.columns.fields(columns)
        tables = []
        for file in np.unique(self.group_file[wanted]):
            inside = wanted[self.group_file[wanted] == file]
            stored = self.columns.stored(file, columns)
            try:
                table = self._read(file, inside, stored, strings)
            except TooLarge as error:
                group = inside[self.group_index[inside] == error.group][0]
                raise InputError(f"column {error.column!r} of {self.where(group)} is too large: {error}") from None
            except (OSError, pa.ArrowException) as error:
                raise InputError(self._name_damage(file, inside, stored, error)) from None
            if schema is not None:
                where = functools.partial(self.where, inside[0])
                table = self.columns.conform(table, file, schema, strings, where)
            tables.append(table)
        return _concatenated(tables).select(list(columns))

    def batches(self, group: int, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        """A row group in tables of at most `rows` rows, without decoding more than is asked for; `columns` are the file's own.
        All of them together are bounded as a read is. Raises InputError for a column that is too large."""
        file, place = int(self.group_file[group]), int(self.group_index[group])
        handle, footer = self._file(file)
        try:
            reading = footer.reading([place], columns, False, self.max_decoded_bytes)
            reader = pq.ParquetFile(handle, metadata=footer.metadata, read_dictionary=reading.dictionaries)
            rows, sizes = min(rows, reading.batch_rows or rows), dict[str, int]()
            for batch in reader.iter_batches(rows, row_groups=[place], columns=list(columns), use_threads=False):
                table = expanded(
                    pa.Table.from_batches([batch]), self.schemas[file], place, footer, self.max_decoded_bytes
                )
                _add_up(sizes, table, place, footer, self.max_decoded_bytes)
                yield table
        except TooLarge as error:
            raise InputError(f"column {error.column!r} of {self.where(group)} is too large: {error}") from None
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"cannot read {self.where(group)}: {error}. Is the file truncated or damaged?") from None

    def check_size(self, group: int, columns: Sequence[str]) -> None:
        """Raises InputError if one of these columns of a row group decodes to more than is allowed; `read` checks by itself."""
        file = int(self.group_file[group])
        for column in self.columns.stored(file, columns):
            try:
                place = int(self.group_index[group])
                self._file(file).footer.reading([place], [column], True, self.max_decoded_bytes)
            except TooLarge as error:
                raise InputError(f"column {error.column!r} of {self.where(group)} is too large: {error}") from None

    def _file(self, file: int) -> _File:
        if not self._opened:
            self._opened.append(_Opened(self.filesystem))
        return self._opened[0].get(self.files[file])

    def _read(self, file: int, groups: np.ndarray, columns: Sequence[str], strings: bool = False) -> pa.Table:
        handle, footer = self._file(file)
        places: list[int] = self.group_index[groups].tolist()
        reading = footer.reading(places, columns, strings, self.max_decoded_bytes)
        if reading.apart:
            return _concatenated([self._read(file, groups[i : i + 1], columns, strings) for i in range(len(groups))])
        reader = pq.ParquetFile(handle, metadata=footer.metadata, pre_buffer=True, read_dictionary=reading.dictionaries)
        if reading.batch_rows is None:
            table = reader.read_row_groups(places, columns=list(columns), use_threads=False)
        else:
            table = self._watched(reader, footer, places[0], columns, reading.batch_rows)
        if table.num_rows != self.group_rows[groups].sum():
            raise pa.ArrowInvalid(f"{table.num_rows} rows where the footer says {self.group_rows[groups].sum()}")
        for column in table.columns:
            for chunk in column.chunks:
                check_indices(chunk)
        if reading.expand:
            table = expanded(table, self.schemas[file], places[0], footer, self.max_decoded_bytes)
        return table

    def _watched(
        self, reader: pq.ParquetFile, footer: Footer, place: int, columns: Sequence[str], rows: int
    ) -> pa.Table:
        """Decode some rows of a row group at a time, and stop where their sizes add up to too much."""
        batches, sizes = [], dict[str, int]()
        for batch in reader.iter_batches(rows, row_groups=[place], columns=list(columns), use_threads=False):
            batches.append(batch)
            _add_up(sizes, batch, place, footer, self.max_decoded_bytes)
        return pa.Table.from_batches(batches)

    def _name_damage(self, file: int, groups: np.ndarray, columns: Sequence[str], error: Exception) -> str:
        """Find the row group and column at fault by reading one at a time; only after a failure."""
        for group in groups:
            for column in columns:
                try:
                    self._read(file, np.array([group]), [column])
                except (OSError, pa.ArrowException) as found:
                    return f"cannot read {self.where(group)}, column {column!r}: {found}. Is the file truncated or damaged?"
        return f"cannot read {self.where(groups[0])}: {error}"


def _add_up(
    sizes: dict[str, int], part: pa.Table | pa.RecordBatch, place: int, footer: Footer, limit: int | None
) -> None:
    """Add the bytes of every column. Raises TooLarge where they are too many."""
    for name in part.schema.names:
        sizes[name] = sizes.get(name, 0) + part.column(name).nbytes
        check_size(place, name, sizes[name], footer.stored(place, name), limit)


def _concatenated(tables: list[pa.Table]) -> pa.Table:
    if any(not table.schema.equals(tables[0].schema) for table in tables[1:]):  # some strings were no dictionaries
        tables = [encode(table) for table in tables]
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables)


def open_source(path: str, max_decoded_bytes: int | None = None) -> Source:
    """List the files of a local path, glob, directory or URI and read their footers.

    Raises InputError that names the file: missing, empty, truncated or not Parquet; or says that no file has any row.
    """
    source = open_files(path, locate(path), max_decoded_bytes)
    if not source.rows:
        raise InputError(
            f"{path!r} has no rows: {len(source.files)} Parquet file(s), all of them empty (first: {source.files[0]!r})"
        )
    return source


def open_files(path: str, located: Located, max_decoded_bytes: int | None = None) -> Source:
    """Read the footers of files that are found already, `path` being their name for messages; they may have no row. Raises InputError."""
    filesystem, files, base = located
    opened = _Opened(filesystem)
    with ThreadPoolExecutor(min(FOOTER_THREADS, len(files))) as pool:
        footers = list(pool.map(lambda file: _footer(opened, file), files))
    rows = [np.asarray(of_groups, np.int64) for _, of_groups, _ in footers]
    known: dict[pa.Schema, pa.Schema] = {}
    schemas = [known.setdefault(schema, schema) for schema, _, _ in footers]  # equal schemas are one object
    group_rows = np.concatenate(rows)
    full = group_rows > 0  # writers may leave row groups without rows
    return Source(
        path=path,
        filesystem=filesystem,
        files=files,
        schemas=tuple(schemas),
        keys=keys_of(files, base),
        max_decoded_bytes=max_decoded_bytes,
        group_file=np.repeat(np.arange(len(files)), [len(r) for r in rows])[full],
        group_index=np.concatenate([np.arange(len(r)) for r in rows])[full],
        group_rows=group_rows[full],
        group_start=np.concatenate([np.cumsum(r) - r for r in rows])[full],
        checksum=zlib.crc32(np.array([checksum for _, _, checksum in footers], "<i8").tobytes()),
        _opened=[opened],
    )


def _footer(opened: _Opened, path: str) -> tuple[pa.Schema, list[int], int]:
    footer = opened.get(path).footer
    metadata = footer.metadata
    schema = metadata.schema.to_arrow_schema().remove_metadata()
    rows = [metadata.row_group(place).num_rows for place in range(metadata.num_row_groups)]
    for place, count in enumerate(rows):
        if not 0 <= count <= MOST_ROWS:
            raise InputError(
                f"cannot read {path!r}, row group {place}: its footer says {count:,} rows. Is the file damaged?"
            )
    return schema, rows, footer.checksum


def _open(filesystem: fs.FileSystem, path: str) -> _File:
    try:
        handle = filesystem.open_input_file(path)
        if handle.size() == 0:
            raise InputError(f"file {path!r} is empty (0 bytes); remove it or write it again")
        return _File(handle, Footer(handle))
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:  # the last of a column's name
        raise InputError(f"cannot read {path!r}: {error}. Is it a Parquet file, and whole?") from None
