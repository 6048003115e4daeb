"""To which request each row belongs. In: a Source and the columns that tell requests apart; out: each row's request, on disk.

A request is named by its first row: rows are numbered over all files, in the order in which they are read. Rows of different folders,
and of files that are named as different splits, are different requests.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from interformer_rec.data.decode.arrays import flat
from interformer_rec.data.files.source import Source
from interformer_rec.data.files.split_names import split_of
from interformer_rec.data.files.unify import bare, is_any_list
from interformer_rec.data.grouping.engine import Engine
from interformer_rec.data.grouping.plain import plain, plain_table
from interformer_rec.data.grouping.reading import tables
from interformer_rec.data.grouping.sides import Key
from interformer_rec.errors import InputError


@dataclass(frozen=True)
class Order:
    """`first`: (rows,) int64 in a file, the first row of each row's request."""

    first: np.memmap
    requests: int
    alone: int  # rows with a null in a key: a request each
    in_order: bool  # the rows of each request lie side by side


def request_order(source: Source, by: Sequence[Key], engine: Engine) -> Order:
    """One pass over the keys' columns. Raises InputError for a column that holds no keys."""
    columns = list(dict.fromkeys(key.column for key in by))
    found = source.columns.fields(columns)
    kept = pa.schema([(name, _key_type(name, found.field(name).type, by)) for name in columns])
    schema = pa.schema(
        [
            ("row", pa.int64()),
            ("place", pa.int32()),
            *((f"key{i}", kept.field(key.column).type) for i, key in enumerate(by)),
        ]
    )
    keys = ", ".join(f"key{i}" for i in range(len(by)))
    missing = " OR ".join(f"key{i} IS NULL" for i in range(len(by)))
    own = f"CASE WHEN {missing} THEN row END"  # a request of its own: what is not known is not the same
    query = f"SELECT min(row) OVER (PARTITION BY place, {keys}, {own}) AS first, ({missing}) AS alone FROM source ORDER BY row"
    path = engine.folder / "first_rows"
    requests = alone = at = 0
    last, in_order = -1, True
    with open(path, "wb") as out:
        for table in engine.run(query, schema, _keyed(source, by, columns, kept, schema)):
            first = np.ascontiguousarray(table["first"].to_numpy(), "<i8")
            out.write(first.data)
            requests += int((first == np.arange(at, at + len(first))).sum())
            alone += int(pc.sum(table["alone"]).as_py() or 0)
            in_order = in_order and bool((np.diff(first, prepend=last) >= 0).all())
            at, last = at + len(first), int(first[-1])
    assert at == source.rows
    return Order(np.memmap(path, "<i8", "r"), requests, alone, in_order)


def places(source: Source) -> np.ndarray:
    """(files,) what a request does not reach beyond: the folder, and the split that a file's name says."""
    known: dict[tuple[str, str | None], int] = {}
    pairs = [(str(PurePosixPath(file).parent), split_of(PurePosixPath(file).name)) for file in source.files]
    return np.array([known.setdefault(pair, len(known)) for pair in pairs], np.int32)


def _keyed(
    source: Source, by: Sequence[Key], columns: list[str], kept: pa.Schema, schema: pa.Schema
) -> Iterator[pa.Table]:
    at, place_of = 0, places(source)
    for group in range(len(source.group_rows)):
        here = place_of[source.group_file[group]]
        for table in tables(source, group, columns):
            plainly, size = plain_table(table, kept), table.num_rows
            values = [_divided(plainly[key.column], key.unit) for key in by]
            numbers = [np.arange(at, at + size), np.full(size, here, np.int32)]
            yield pa.table([*numbers, *values], schema=schema)
            at += size


def _divided(column: pa.ChunkedArray, unit: int | None) -> pa.ChunkedArray | pa.Array:
    """Whole numbers in units, rounded down; floats without NaN, which is no key."""
    if pa.types.is_floating(column.type):
        return pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    if unit is None:
        return column
    values, null = flat(column)
    return pa.array(values // unit, column.type, mask=null)


def _key_type(name: str, type_: pa.DataType, by: Sequence[Key]) -> pa.DataType:
    if is_any_list(bare(type_)) or pa.types.is_nested(bare(type_)):
        raise InputError(f"--by {name}: column {name!r} is {type_}; a request is told by single values")
    kept = plain(name, type_)
    if any(key.column == name and key.unit for key in by) and not pa.types.is_integer(kept):
        raise InputError(f"--by {name}//...: column {name!r} is {type_}; only whole numbers and times can be divided")
    return kept
