"""A log too long for the memory -> one bucket of users after the other. In: record batches with a user_id, in any order;
out: tables that hold all rows of some users, so that histories can be built bucket by bucket."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

BUCKET_BYTES = 256 << 20  # of raw text that share a bucket; as arrays, with the histories' spans, about as much again


class UserBuckets:
    """Temporary Arrow files in `folder`, one a bucket; a user is in bucket user_id % buckets. A context manager."""

    def __init__(self, folder: Path, raw_bytes: int, schema: pa.Schema) -> None:
        self._folder, self._schema = tempfile.TemporaryDirectory(dir=folder), schema
        self._paths = [Path(self._folder.name) / f"{n}.arrow" for n in range(1 + raw_bytes // BUCKET_BYTES)]
        self._writers = [pa.ipc.new_stream(str(path), schema) for path in self._paths]

    def __enter__(self) -> UserBuckets:
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._writers:
            writer.close()
        self._folder.cleanup()

    def add(self, batch: pa.RecordBatch) -> None:
        """Rows in the schema's columns; user_id has no nulls."""
        bucket = batch.column("user_id").to_numpy(zero_copy_only=False) % len(self._writers)
        order = np.argsort(bucket, kind="stable")
        counts = np.bincount(bucket, minlength=len(self._writers))
        grouped = batch.take(pa.array(order))
        for writer, start, rows in zip(self._writers, np.cumsum(counts) - counts, counts, strict=True):
            if rows:
                writer.write_batch(grouped.slice(start, rows))

    def __iter__(self) -> Iterator[pa.Table]:
        """All rows of a bucket's users, in the order they came; after this nothing more can be added."""
        for writer, path in zip(self._writers, self._paths, strict=True):
            writer.close()
            with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
                yield stream.read_all().combine_chunks()
            path.unlink()
