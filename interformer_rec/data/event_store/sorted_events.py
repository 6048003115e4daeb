"""Events in any order -> a store's files: by user, then time. In: tables of events and DuckDB; out: Parquet files in a folder.

Events of a user at one time stay in the order in which they come.
"""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from interformer_rec.data.grouping.engine import Engine
from interformer_rec.data.grouping.plain import restored

ROW_GROUP, FILE = 1 << 20, 1 << 26  # events
NUMBERS = ("row", "run", "place")  # of an event: its source's row, events of the row at its time, its place in the row


def numbered(kept: pa.Schema) -> pa.Schema:
    """The columns as DuckDB gets them: the event's numbers, then user, time and the others as c0, c1, ..."""
    fields = [(name, pa.int64()) for name in NUMBERS]
    return pa.schema([*fields, *((f"c{place}", field.type) for place, field in enumerate(kept))])


def sorted_events(tables: Iterable[pa.Table], kept: pa.Schema, engine: Engine, again: bool) -> Iterator[pa.Table]:
    """`tables`: as `numbered(kept)`. With `again` events stand in the histories of several rows: of a user's events at one moment those of
    the row that has most of them stay, which are all, unless each history is cut there."""
    columns = ", ".join(f"c{place}" for place in range(len(kept)))
    once = "QUALIFY row = first_value(row) OVER (PARTITION BY c0, c1 ORDER BY run DESC, row) " if again else ""
    query = f"SELECT {columns} FROM source {once}ORDER BY c0, c1, row, place"
    for table in engine.run(query, numbered(kept), tables):
        yield table.rename_columns(kept.names)


def write_store(folder: Path, tables: Iterable[pa.Table], schema: pa.Schema, time: str) -> int:
    """Write events that are in order; how many files. `schema`: the types that they get back."""
    parts = _parts(tables)
    first = next(parts, None)
    files = 0
    while first is not None:
        with _writer(folder / f"events-{files:05d}.parquet", schema, time) as writer:
            for part in itertools.chain([first], itertools.islice(parts, FILE // ROW_GROUP - 1)):
                arrays = [restored(part[field.name].combine_chunks(), field.type) for field in schema]
                writer.write_table(pa.table(arrays, schema=schema), row_group_size=ROW_GROUP)
        first, files = next(parts, None), files + 1
    return files


def _writer(path: Path, schema: pa.Schema, time: str) -> pq.ParquetWriter:
    """Times rise, so their differences are small; ids repeat."""
    wide = schema.field(time).type.bit_width >= 32
    names = [name for name in schema.names if name != time or not wide]
    encoding = {time: "DELTA_BINARY_PACKED"} if wide else None
    return pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=names, column_encoding=encoding)


def _parts(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Tables of ROW_GROUP events."""
    waiting: list[pa.Table] = []
    count = 0
    for table in tables:
        waiting.append(table)
        count += len(table)
        while count >= ROW_GROUP:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, ROW_GROUP)
            waiting, count = [whole.slice(ROW_GROUP)], count - ROW_GROUP
    if count:
        yield pa.concat_tables(waiting)
