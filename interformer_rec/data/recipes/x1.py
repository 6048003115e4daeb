"""The public x1 sets of the BARS benchmark: train.csv and test.csv, histories as 12^7^30 -> train, valid and test Parquet
files and a config.

Source: https://github.com/reczoo/Datasets, whose conversion scripts define the columns and MD5 sums. None of the three
has a validation file, and the published logs stop early on test.csv. Here valid is cut from the end of train.csv, by a
rule of each set, and test.csv is only ever scored. Read and written a block at a time."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from interformer_rec.data.recipes import raw_files, run_config
from interformer_rec.data.recipes.earlier_events import ragged
from interformer_rec.data.recipes.raw_files import Source
from interformer_rec.data.recipes.split_files import SplitFiles

LIST = pa.list_(pa.int64())  # in X1Set.columns: a text of ids divided by ^
HoldOut = Callable[[pa.RecordBatch, int], np.ndarray]  # rows of train.csv, number of the first -> which are valid


@dataclass(frozen=True)
class X1Set:
    """What differs between the x1 sets. `hold_out` reads train.csv once and says how to tell its validation rows."""

    source: Source
    md5: dict[str, str]  # of train.csv and test.csv
    columns: dict[str, pa.DataType]  # int64, float64 or LIST
    events: tuple[str, ...]  # list columns that hold fields of the same events
    hold_out: Callable[[Path], HoldOut]
    features: dict[str, Any]
    model: dict[str, Any]


def write(one: X1Set, folder: Path, out: Path, raw: Path | None, check: str) -> dict[str, int]:
    """Write the three splits and config.yaml into `folder`; rows of each.

    Raises InputError when a file is missing, is not the published one (unless `check` is none), or has other columns.
    """
    paths = {name: raw_files.find(raw, name, one.source)[0] for name in one.md5}
    for name, path in paths.items():
        raw_files.check_md5(path, one.md5[name], check)
    held_out = one.hold_out(paths["train.csv"])
    with SplitFiles(folder) as files:
        first = 0
        for batch in rows(paths["train.csv"], one):
            valid = held_out(batch, first)
            first += len(valid)
            table = pa.Table.from_batches([batch])
            files.add("train", table.filter(pa.array(~valid)))
            files.add("valid", table.filter(pa.array(valid)))
        for batch in rows(paths["test.csv"], one):
            files.add("test", pa.Table.from_batches([batch]))
    run_config.write(folder, out, one.source.name, one.features, one.model, batch_size=2048)
    return files.counts("the raw files hold too few rows")


def rows(path: Path, one: X1Set) -> Iterator[pa.RecordBatch]:
    """One of the files, block by block, its texts of ids as lists; fields of the same events are equally long."""
    texts = {name: pa.string() if type_ == LIST else type_ for name, type_ in one.columns.items()}
    uneven = 0
    for batch in raw_files.batches(path, texts):
        columns = {
            name: raw_files.id_lists(batch.column(name), "^", name, path) if type_ == LIST else batch.column(name)
            for name, type_ in one.columns.items()
        }
        uneven += _align(columns, one.events)
        yield pa.RecordBatch.from_pydict(columns)
    if uneven:
        warnings.warn(
            f"{path}: in {uneven:,} rows {', '.join(one.events)} differ in length; the newest events that all of them have "
            "were kept"
        )


def _align(columns: dict[str, pa.Array], events: tuple[str, ...]) -> int:
    """Cut lists that differ in length to their newest common part, in place; rows where they differed."""
    if not events:
        return 0
    stops = {name: columns[name].offsets.to_numpy()[1:] for name in events}
    lengths = np.array([np.diff(columns[name].offsets.to_numpy()) for name in events])
    if (lengths == lengths[:1]).all():
        return 0
    shortest = lengths.min(axis=0)
    for name in events:
        offsets, places = ragged(stops[name] - shortest, stops[name])
        columns[name] = pa.ListArray.from_arrays(pa.array(offsets), columns[name].values.take(pa.array(places)))
    return int((lengths != shortest).any(axis=0).sum())


def last_rows(path: Path, column: str, part: float) -> HoldOut:
    """The last `part` of the file's rows, in file order."""
    total = sum(len(batch) for batch in raw_files.batches(path, {column: pa.int64()}))
    start = round(total * (1 - part))
    return lambda batch, first: np.arange(first, first + len(batch)) >= start


def newest_times(path: Path, column: str, part: float) -> HoldOut:
    """Rows whose time is above that of all but the last `part` of the rows: no time is on both sides."""
    times = np.concatenate(
        [batch.column(column).to_numpy(zero_copy_only=False) for batch in raw_files.batches(path, {column: pa.int64()})]
    )
    last = max(0, round(len(times) * (1 - part)) - 1)
    boundary = np.partition(times, last)[last]
    return lambda batch, _: batch.column(column).to_numpy(zero_copy_only=False) > boundary
