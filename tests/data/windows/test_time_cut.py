"""One data set cut by a time column: every row is in one window, read as it would be from a file of its own."""

from __future__ import annotations

import pickle
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.config.windows import WindowsConfig
from interformer_rec.data.windows.time_cut import TimeCut
from interformer_rec.errors import InputError

DAY = 86_400
START = int(datetime(2026, 11, 28, tzinfo=timezone.utc).timestamp())


def rows(times: list[int], type_: pa.DataType | None = None, first: int = 0) -> pa.Table:
    """Rows with a time in seconds, and text and lists beside it."""
    numbers = range(first, first + len(times))
    column = pa.array(times, pa.int64())
    return pa.table({
        "at": column if type_ is None else pa.array([time * 1_000_000 for time in times], pa.timestamp("us")).cast(type_),
        "row": pa.array(numbers),
        "text": [f"id {number % 3}" for number in numbers],
        "tags": [[f"t{number % 2}"] * (number % 4) for number in numbers],
    })  # fmt: skip


def finder(place: Path, following: bool = False, width: float = DAY) -> TimeCut:
    return TimeCut(WindowsConfig(path=str(place), by="time", column="at", width=width), following=following)


@pytest.mark.parametrize(
    "type_", [None, pa.timestamp("ms"), pa.timestamp("ns", "UTC"), pa.timestamp("s", "Asia/Tokyo")]
)
def test_every_row_is_in_one_window(tmp_path: Path, type_: pa.DataType | None) -> None:
    """Rows in no order, several windows in a row group; a Source that was sent to another rank reads the same."""
    times = np.random.default_rng(0).integers(START, START + 3 * DAY, 200).tolist()
    for part in (0, 1):
        table = rows(times[part * 100 : part * 100 + 100], type_, part * 100)
        pq.write_table(table, tmp_path / f"part-{part}.parquet", row_group_size=30)
    found = finder(tmp_path)
    windows = found.find()
    names = [window.name for window in windows]
    assert names == (
        ["2026-11-28", "2026-11-29", "2026-11-30"] if type_ else [str(START + day * DAY) for day in range(3)]
    )
    read = list[int]()
    for day, window in enumerate(windows):
        source = pickle.loads(pickle.dumps(found.open([window])))
        groups = list(range(len(source.group_rows)))
        for strings in (False, True):
            table = source.read(groups, ["tags", "row", "text"], strings)
            assert table.column_names == ["tags", "row", "text"] and table.num_rows == source.rows
            numbers = table["row"].to_pylist()
            assert [times[number] // DAY for number in numbers] == [START // DAY + day] * source.rows
            assert table["text"].to_pylist() == [f"id {number % 3}" for number in numbers]
            assert table["tags"].to_pylist() == [[f"t{number % 2}"] * (number % 4) for number in numbers]
        read += numbers
        where = source.where_row(groups, 5)
        assert f"part-{numbers[5] // 100}.parquet" in where and f"row {numbers[5] % 100} of the file" in where
        for group in groups:
            assert source.read([group], ["row"]).num_rows == source.group_rows[group]
    assert sorted(read) == list(range(200))
    two = found.open(windows[:2])
    assert two is not None and sorted(two.read(range(len(two.group_rows)), ["row"])["row"].to_pylist()) == sorted(
        number for number, time in enumerate(times) if time < START + 2 * DAY
    )


def test_dates_and_hours_are_named(tmp_path: Path) -> None:
    pq.write_table(rows([START, START + 3_700], pa.timestamp("s")), tmp_path / "a.parquet")
    assert [one.name for one in finder(tmp_path, width=3_600).find()] == ["2026-11-28T00", "2026-11-28T01"]
    assert [one.name for one in finder(tmp_path, width=60).find()] == ["2026-11-28T00:00:00", "2026-11-28T01:01:00"]
    days = pa.table({"at": pa.array([START // DAY], pa.int32()).cast(pa.date32())})
    (tmp_path / "dates").mkdir()
    pq.write_table(days, tmp_path / "dates" / "a.parquet")
    assert [one.name for one in finder(tmp_path / "dates").find()] == ["2026-11-28"]


def test_the_last_one_is_whole_when_a_later_row_is_there(tmp_path: Path) -> None:
    pq.write_table(rows([START, START + DAY]), tmp_path / "a.parquet")
    assert [one.unfinished for one in finder(tmp_path).find()] == [None, None]
    assert [one.unfinished is None for one in finder(tmp_path, following=True).find()] == [True, False]


def test_new_files_change_the_windows_they_have_rows_of(tmp_path: Path) -> None:
    """Only new files are read."""
    pq.write_table(rows([START, START + DAY]), tmp_path / "a.parquet")
    found = finder(tmp_path)
    before = {one.name: one.sizes for one in found.find()}
    pq.write_table(rows([START + DAY + 5, START + 2 * DAY]), tmp_path / "b.parquet")
    after = {one.name: one.sizes for one in found.find()}
    first, second, third = after
    assert before[first] == after[first] and before[second] != after[second] and third not in before


@pytest.mark.parametrize(
    "table, width, message",
    [
        (pa.table({"at": [1.5]}), DAY, "is double, and data.windows.column is a timestamp, a date or an integer"),
        (pa.table({"at": pa.array([5, None], pa.int64())}), DAY, r"has 1 row\(s\) without a time"),
        (pa.table({"at": [-5]}), DAY, "has the time -5"),
        (pa.table({"at": [5]}), 0.5, "must be a whole number"),
        (pa.table({"other": [5]}), DAY, "at"),
    ],
)
def test_what_is_no_time(tmp_path: Path, table: pa.Table, width: float, message: str) -> None:
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InputError, match=message):
        finder(tmp_path, width=width).find()
