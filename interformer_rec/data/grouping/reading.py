"""The rows of a data set, a bounded number at a time. In: a Source; out: tables in the files' order, and where a row stands."""

import functools
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from interformer_rec.data.files.source import Source
from interformer_rec.data.grouping.engine import ROWS
from interformer_rec.errors import InputError


def whole_schema(source: Source) -> pa.Schema:
    """All columns of all files. Raises InputError for one that files hold in types without a common one."""
    whole = source.columns.whole(())
    if whole.left_out:
        raise InputError(whole.left_out[0])
    return whole.schema


def only_in_folders(source: Source) -> frozenset[str]:
    """Columns that are in names of folders alone: a file below the same folders has them again."""
    stored = {name for schema in source.schemas for name in schema.names}
    return frozenset(key for keys in source.keys for key in keys if key not in stored)


def tables(source: Source, group: int, columns: Sequence[str], rows: int = ROWS) -> Iterator[pa.Table]:
    """A row group in tables of at most `rows` rows, in the types of all files together."""
    file = int(source.group_file[group])
    stored = source.columns.stored(file, columns) or source.schemas[file].names[:1]  # rows are counted by a column
    schema = source.columns.fields(columns)
    for table in source.batches(group, stored, rows):
        if source.columns.uniform:
            yield table.select(list(columns))
        else:
            yield source.columns.conform(table, file, schema, False, functools.partial(source.where, group))


def all_tables(source: Source, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The same of all row groups."""
    for group in range(len(source.group_rows)):
        yield from tables(source, group, columns)


def value(source: Source, row: int, column: str) -> pa.Scalar:
    """Of a row, counted over all files."""
    group, inside = _place(source, row)
    return source.read([group], (column,))[column][inside]


def where(source: Source, row: int) -> str:
    """'file, row group, row of the file' of a row, counted over all files."""
    group, inside = _place(source, row)
    return source.where_row([group], inside)


def first_rows(source: Source) -> np.ndarray:
    """(files + 1,) the number of each file's first row, counted over all files; then of all rows."""
    rows = np.bincount(source.group_file, source.group_rows, len(source.files)).astype(np.int64)
    return np.r_[0, np.cumsum(rows)]


def _place(source: Source, row: int) -> tuple[int, int]:
    ends = np.cumsum(source.group_rows)
    group = int(np.searchsorted(ends, row, side="right"))
    return group, row - int(ends[group] - source.group_rows[group])
