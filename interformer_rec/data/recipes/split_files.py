"""Tables of rows -> one Parquet file per split. In: tables in any sizes, each for a split; out: train.parquet,
valid.parquet, ... in row groups of one size, and rows per file."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from interformer_rec.errors import InputError

ROW_GROUP = 8192


class SplitFiles:
    """Writes the splits side by side; holds less than a row group and the newest table of each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[str, pq.ParquetWriter] = {}
        self._waiting: dict[str, list[pa.Table]] = {}
        self.rows: dict[str, int] = {}

    def __enter__(self) -> SplitFiles:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        for split, waiting in self._waiting.items():
            if kind is None and waiting:
                self._writers[split].write_table(pa.concat_tables(waiting).combine_chunks())
        for writer in self._writers.values():
            writer.close()

    def add(self, split: str, table: pa.Table) -> None:
        """Append rows to a split; every table has the same columns. A file appears with its first row."""
        if not len(table):
            return
        if split not in self._writers:
            path = self._folder / f"{split}.parquet"
            self._writers[split] = pq.ParquetWriter(path, table.schema, compression="zstd")
        waiting = self._waiting.setdefault(split, [])
        waiting.append(table)
        self.rows[split] = self.rows.get(split, 0) + len(table)
        ready = sum(map(len, waiting)) // ROW_GROUP * ROW_GROUP
        if ready:
            joined = pa.concat_tables(waiting)
            self._writers[split].write_table(joined.slice(0, ready).combine_chunks(), row_group_size=ROW_GROUP)
            self._waiting[split] = [joined.slice(ready)] if ready < len(joined) else []

    def counts(self, cure: str) -> dict[str, int]:
        """Rows of every file. Raises InputError, with `cure`, if train, valid or test got no row."""
        empty = [split for split in ("train", "valid", "test") if split not in self.rows]
        if empty:
            raise InputError(f"no row for {', '.join(empty)}: {cure}")
        return {f"{split}.parquet": rows for split, rows in self.rows.items()}
