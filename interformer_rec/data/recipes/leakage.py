"""Does a prepared data set let a model see the future? In: written Parquet files in the order of their time; out:
nothing, or an InputError that names file, row and column."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from interformer_rec.errors import InputError


def check(files: Sequence[Path | Sequence[Path]], time: str, histories: Sequence[str] = ()) -> None:
    """Every file begins after the one before it has ended, and no history event is at or after its row's time.

    `files`: several files in one place are parts of the same time, in any order. `time`: the column with a row's time;
    `histories`: list columns with the events' times, in the same unit. Reads a row group at a time. Raises InputError at
    the first violation.
    """
    latest: tuple[int, Path] | None = None
    for entry in files:
        ends = []
        for path in [entry] if isinstance(entry, Path) else entry:
            span = _span(path, time, histories)
            if span is None:
                continue
            if latest and span[0] <= latest[0]:
                raise InputError(
                    f"{path} begins at {time} {span[0]}, but {latest[1]} reaches to {latest[0]}: splits must not overlap in time"
                )
            ends.append((span[1], path))
        latest = max(ends, default=latest)


def _span(path: Path, time: str, histories: Sequence[str]) -> tuple[int, int] | None:
    """First and last time of a file whose histories are as they must be; None where it has no row."""
    file = pq.ParquetFile(path)
    low, high, first_row = 0, 0, 0
    for number in range(file.num_row_groups):
        table = file.read_row_group(number, columns=[time, *histories])
        times = table[time].to_numpy()
        if not len(times):
            continue
        for column in histories:
            _check_histories(path, first_row, times, table[column].combine_chunks(), column)
        low = min(low, times.min()) if first_row else times.min()
        high = max(high, times.max()) if first_row else times.max()
        first_row += len(times)
    return (low, high) if first_row else None


def _check_histories(path: Path, first_row: int, times: np.ndarray, lists: pa.ListArray, column: str) -> None:
    lengths = np.diff(lists.offsets.to_numpy())
    events = lists.flatten().to_numpy(zero_copy_only=False)
    owner = np.repeat(np.arange(len(times)), lengths)
    late = np.flatnonzero(events >= times[owner])
    if len(late):
        row, event = owner[late[0]], events[late[0]]
        raise InputError(
            f"row {first_row + row} of {path} is at {times[row]}, but {column} holds an event at {event}: a history may "
            "only hold what came strictly before"
        )
