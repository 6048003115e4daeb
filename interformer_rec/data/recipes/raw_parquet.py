"""Parquet files as a data set's owners publish them -> Arrow batches. In: a file and the columns wanted of it; out: record
batches in the file's order with exactly those columns, some rows at a time; or an InputError that says what is wrong."""

from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from interformer_rec.errors import InputError

BATCH_ROWS = 1 << 18  # decoded at a time: what bounds the memory


def batches(
    path: Path, columns: dict[str, pa.DataType], nullable: Collection[str] = (), rows: int = BATCH_ROWS
) -> Iterator[pa.RecordBatch]:
    """The named columns, cast to these types without loss, `rows` rows at a time.

    Raises InputError for a file that is no Parquet file, a missing column, a value that its type cannot hold, or a null
    outside `nullable`.
    """
    file = opened(path)
    try:
        if missing := [name for name in columns if name not in file.schema_arrow.names]:
            raise InputError(
                f"{path} has no column {', '.join(missing)}; its columns are {', '.join(file.schema_arrow.names)}"
            )
        for batch in file.iter_batches(rows, columns=list(columns), use_threads=False):
            parts = [_typed(path, batch, name, type_) for name, type_ in columns.items()]
            empty = [
                name for name, part in zip(columns, parts, strict=True) if part.null_count and name not in nullable
            ]
            if empty:
                raise InputError(f"{path} has nulls in column {', '.join(empty)}, where every row needs a value")
            yield pa.RecordBatch.from_arrays(parts, names=list(columns))
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from None


def opened(path: Path) -> pq.ParquetFile:
    """The file with its footer. Raises InputError."""
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"cannot read {path}: {error}. Is it a Parquet file, and whole?")


def whole(path: Path, columns: dict[str, pa.DataType], nullable: Collection[str] = ()) -> pa.Table:
    """All batches as one table, each column in one chunk."""
    return pa.Table.from_batches(batches(path, columns, nullable), pa.schema(list(columns.items()))).combine_chunks()


def _typed(path: Path, batch: pa.RecordBatch, name: str, type_: pa.DataType) -> pa.Array:
    column = batch.column(name)
    try:
        return column.cast(type_)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"column {name} of {path} is {column.type}, and cannot be read as {type_}: {error}") from None
