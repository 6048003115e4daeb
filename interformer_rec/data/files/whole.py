"""A small Parquet file of ours, read whole and bounded. In: a path, maybe of a run that someone else wrote; out: its table.

A row group is bounded as every read is (footer.py); here all of them together are, too.
"""

import os

import pyarrow as pa
from pyarrow import fs

from interformer_rec.data.files.footer import OUT_OF_PROPORTION, SUSPICIOUS
from interformer_rec.data.files.locate import Located
from interformer_rec.data.files.source import open_files
from interformer_rec.errors import InputError


def read_whole(path: str, columns: tuple[str, ...]) -> pa.Table:
    """These columns of one local file, which may have no row. Raises InputError: damaged, or beyond SUSPICIOUS and out of proportion."""
    source = open_files(path, Located(fs.LocalFileSystem(), (os.path.abspath(path),), os.path.dirname(path)))
    schema = source.require(columns)
    limit = max(SUSPICIOUS, OUT_OF_PROPORTION * os.path.getsize(path))
    tables, decoded = list[pa.Table](), 0
    for group in range(len(source.group_rows)):
        tables.append(source.read([group], columns))
        decoded += tables[-1].nbytes
        if decoded > limit:
            raise InputError(f"cannot read {path!r}: it would be more than {limit:,} bytes in memory. Is it damaged?")
    return pa.concat_tables(tables) if tables else schema.empty_table()
