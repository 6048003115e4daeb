"""Request rows -> Parquet files, and Parquet files of request rows -> impressions. What is written says which columns are lists."""

import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from interformer_rec.data.decode.bad_rows import BadRows
from interformer_rec.data.decode.requests import flattened
from interformer_rec.data.files.source import Source
from interformer_rec.data.grouping.reading import tables
from interformer_rec.data.recipes.split_files import ROW_GROUP
from interformer_rec.errors import InputError

KEY = b"interformer.candidates"  # in a file's metadata: the columns that hold lists of candidates


class Files:
    """Writes one file after another; a file appears with its first row."""

    def __init__(self, folder: Path, names: Sequence[str], candidates: Sequence[str] | None) -> None:
        self._folder, self._names, self._open = folder, names, -1
        self._said = None if candidates is None else {KEY: json.dumps(list(candidates)).encode()}
        self._writer: pq.ParquetWriter | None = None
        self.written = 0

    def add(self, file: int, table: pa.Table) -> None:
        """Append a row group; files come in ascending order."""
        if self._writer is None or file != self._open:
            self.close()
            path = self._folder / self._names[file]
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(path, table.schema.with_metadata(self._said), compression="zstd")
            self._open, self.written = file, self.written + 1
        self._writer.write_table(table.replace_schema_metadata(self._said))

    def close(self) -> None:
        """Finish the file that is open."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None


def candidates_said(source: Source) -> tuple[str, ...]:
    """The columns that hold lists of candidates, as `data group` wrote into the first file; () where it says nothing."""
    with source.filesystem.open_input_file(source.files[0]) as handle:
        said = (pq.read_schema(handle).metadata or {}).get(KEY)
    if said is None:
        return ()
    try:
        found = json.loads(said)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise InputError(
            f"file {source.files[0]!r} says in {KEY.decode()} what is no list of columns; use --candidates"
        )
    return tuple(found)


def impressions(source: Source, columns: Sequence[str], candidates: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
    """(file, at most ROW_GROUP candidates, a row each) of request rows. Raises InputError where the lists of a row differ in length."""
    once = [name for name in columns if name not in candidates]
    for group in range(len(source.group_rows)):
        before = 0
        for table in tables(source, group, columns):
            bad = BadRows(table, functools.partial(_where, source, group, before), False)
            before += table.num_rows
            shown, counts = flattened(table, candidates, candidates[0], bad)
            of = np.repeat(np.arange(table.num_rows), counts)
            for start in range(0, len(of), ROW_GROUP):
                at = pa.array(of[start : start + ROW_GROUP])
                part = shown.slice(start, ROW_GROUP)
                values = {name: table[name].take(at) for name in once} | {name: part[name] for name in candidates}
                yield int(source.group_file[group]), pa.table({name: values[name] for name in columns}).combine_chunks()


def _where(source: Source, group: int, before: int, row: int) -> str:
    return source.where_row([group], before + row)
