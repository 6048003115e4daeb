"""Rows of a request that lie side by side -> one row with lists of candidates. In: tables in the requests' order; out: request rows.

A table that comes in has FIRST (the number of the request's first row), the columns in plain types, and for each column of `checked`
a hash of its value; the request's columns have their value in the first row alone.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from interformer_rec.data.grouping.plain import restored
from interformer_rec.data.grouping.sides import Sides
from interformer_rec.data.recipes.split_files import ROW_GROUP

ROW, FIRST = "#row", "#first"  # columns beside the files' own: the row's number, that of its request's first row


class Requests(NamedTuple):
    """Request rows, in order."""

    table: pa.Table
    first: np.ndarray  # (rows,) the number of each one's first row
    candidates: np.ndarray  # (rows,)


class Differs(Exception):
    """A column that is the request's has two values in one request."""

    def __init__(self, column: str, rows: tuple[int, int]) -> None:
        super().__init__(column)
        self.column, self.rows = column, rows  # numbers of two rows, over all files


def grouped(tables: Iterable[pa.Table], sides: Sides, schema: pa.Schema) -> Iterator[Requests]:
    """Whole requests of at least ROW_GROUP candidates in all, the last ones of fewer. `schema`: the columns' types in the files.

    Raises Differs.
    """
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) < ROW_GROUP:
            continue
        joined = pa.concat_tables(waiting)
        first = joined[FIRST].to_numpy()
        end = int(np.searchsorted(first, first[-1]))  # where the last request, which may go on, begins
        if end:
            yield _requests(joined.slice(0, end), sides, schema)
        waiting = [joined.slice(end)]
    if sum(map(len, waiting)):
        yield _requests(pa.concat_tables(waiting), sides, schema)


def _requests(table: pa.Table, sides: Sides, schema: pa.Schema) -> Requests:
    table = table.combine_chunks()
    first = table[FIRST].to_numpy()
    starts = np.flatnonzero(np.diff(first, prepend=-1))
    counts = np.diff(starts, append=len(first))
    _check(table, sides.once, starts, counts)
    bounds = pa.array(np.r_[starts, len(first)].astype(np.int32))
    columns, at = {}, pa.array(starts)
    for field in schema:
        if field.name in sides.candidates:
            values = restored(_array(table[field.name]), field.type)
            columns[field.name] = pa.ListArray.from_arrays(bounds, values)
        elif field.name in sides.written:
            columns[field.name] = restored(_array(table[field.name].take(at)), field.type)
    return Requests(pa.table(columns), first[starts], counts)


def hash_name(column: str) -> str:
    """The column that holds the hashes of another one."""
    return f"#hash of {column}"


def _check(table: pa.Table, checked: Sequence[str], starts: np.ndarray, counts: np.ndarray) -> None:
    for name in checked:
        found = table[hash_name(name)].to_numpy()
        wrong = np.flatnonzero(found != np.repeat(found[starts], counts))
        if len(wrong):
            row = int(wrong[0])
            raise Differs(name, (int(table[FIRST][row].as_py()), int(table[ROW][row].as_py())))


def _array(column: pa.ChunkedArray) -> pa.Array:
    joined = column.combine_chunks()
    return joined if isinstance(joined, pa.Array) else pa.concat_arrays(joined.chunks)
