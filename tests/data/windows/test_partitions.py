"""Folders and files as windows: which are found, in which order, and whether they are whole. Local and behind a URI."""

from __future__ import annotations

import os
import time
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.config.windows import WindowsConfig
from interformer_rec.data.windows.partitions import Partitions
from interformer_rec.errors import InputError


def put(path: Path, rows: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"a": list(range(rows))}), path)


def finder(path: object, **options: object) -> Partitions:
    return Partitions(WindowsConfig(path=str(path), **options))  # type: ignore[arg-type]


def names(found: Partitions) -> list[str]:
    return [window.name for window in found.find()]


def test_folders_in_time_order(tmp_path: Path) -> None:
    for hour in (10, 9, 11):
        for part in (0, 1):
            put(tmp_path / "dt=2026-11-28" / f"hr={hour}" / f"part-{part}.parquet", rows=hour)
    put(tmp_path / "dt=2026-11-27" / "hr=23" / "part-0.parquet")
    put(tmp_path / "dt=2026-11-28" / "_temporary" / "half.parquet")
    put(tmp_path / "dt=2026-11-28" / "hr=9" / "_hidden.parquet")
    found = finder(tmp_path)
    hours = ["dt=2026-11-28/hr=9", "dt=2026-11-28/hr=10", "dt=2026-11-28/hr=11"]
    assert names(found) == ["dt=2026-11-27/hr=23", *hours]
    windows = found.find()
    source = found.open([windows[1]])
    assert source is not None and source.rows == 18 and len(source.files) == 2
    assert source.keys[0] == {"dt": "2026-11-28", "hr": "9"}
    both = found.open(windows[1:3])
    assert both is not None and both.rows == 38


def test_levels_say_how_deep_a_window_lies(tmp_path: Path) -> None:
    for country in ("de", "fr"):
        put(tmp_path / "dt=2026-11-28" / f"country={country}" / "part.parquet")
    assert names(finder(tmp_path)) == ["dt=2026-11-28/country=de", "dt=2026-11-28/country=fr"]
    assert names(finder(tmp_path, levels=1)) == ["dt=2026-11-28"]
    (tmp_path / "dt=2026-11-28" / "country=de" / "_SUCCESS").touch()  # of a part of it
    assert finder(tmp_path, levels=1, marker="_SUCCESS").find()[0].unfinished is not None
    (tmp_path / "dt=2026-11-28" / "_SUCCESS").touch()
    assert names(finder(tmp_path, marker="_SUCCESS")) == ["dt=2026-11-28/country=de", "dt=2026-11-28/country=fr"]
    assert finder(tmp_path, levels=1, marker="_SUCCESS").find()[0].unfinished is None


def test_single_files_and_a_glob(tmp_path: Path) -> None:
    for day in (3, 1, 2):
        put(tmp_path / f"day-{day}.parquet")
    put(tmp_path / "other.parquet")
    found = finder(f"{tmp_path}/day-*.parquet", by="file")
    assert names(found) == ["day-1.parquet", "day-2.parquet", "day-3.parquet"]
    assert [len(window.files) for window in found.find()] == [1, 1, 1]


def test_a_file_that_lies_in_no_folder_is_named(tmp_path: Path) -> None:
    put(tmp_path / "part.parquet")
    with pytest.raises(InputError, match=r"part.parquet' lies in none: move it, .* set data.windows.by: file"):
        finder(tmp_path).find()


def test_nothing_there_yet(tmp_path: Path) -> None:
    assert names(finder(tmp_path)) == []
    with pytest.raises(InputError, match="there is no file or directory"):
        finder(tmp_path / "mistyped").find()


def test_a_marker_makes_a_folder_whole(tmp_path: Path) -> None:
    put(tmp_path / "dt=2026-11-27" / "part.parquet")
    put(tmp_path / "dt=2026-11-28" / "part.parquet")
    (tmp_path / "dt=2026-11-27" / "_SUCCESS").touch()
    (tmp_path / "dt=2026-11-26").mkdir()
    (tmp_path / "dt=2026-11-26" / "_SUCCESS").touch()  # its writer had no rows
    empty, whole, half = finder(tmp_path, marker="_SUCCESS").find()
    assert (empty.name, empty.files, empty.unfinished) == ("dt=2026-11-26", (), None)
    assert whole.unfinished is None and half.unfinished is not None and "_SUCCESS" in half.unfinished
    assert names(finder(f"{tmp_path}/*=*-27/*.parquet", marker="_SUCCESS")) == ["dt=2026-11-27"]  # and no empty 26


def test_an_age_makes_a_folder_whole(tmp_path: Path) -> None:
    for day in (27, 28):
        put(tmp_path / f"dt=2026-11-{day}" / "part.parquet")
    before = time.time() - 100
    os.utime(tmp_path / "dt=2026-11-27" / "part.parquet", (before, before))
    old, new = finder(tmp_path, min_age=60).find()
    assert old.unfinished is None and new.unfinished is not None and "less than 60 seconds" in new.unfinished
    assert old.modified == pytest.approx(before)


def test_sizes_change_with_the_files(tmp_path: Path) -> None:
    put(tmp_path / "dt=1" / "a.parquet")
    first = finder(tmp_path).find()[0]
    put(tmp_path / "dt=1" / "b.parquet")
    second = finder(tmp_path).find()[0]
    (tmp_path / "dt=1" / "b.parquet").unlink()
    third = finder(tmp_path).find()[0]
    assert first.sizes == third.sizes != second.sizes


def test_behind_a_uri() -> None:
    store = fsspec.filesystem("memory")
    for day in (28, 27):
        with store.open(f"/windows-of-a-test/dt=2026-11-{day}/part.parquet", "wb") as file:
            pq.write_table(pa.table({"a": [1, 2]}), file)
    store.touch("/windows-of-a-test/dt=2026-11-27/_SUCCESS")
    found = finder("memory://windows-of-a-test", marker="_SUCCESS")
    whole, half = found.find()
    assert (whole.name, half.name) == ("dt=2026-11-27", "dt=2026-11-28") and half.unfinished is not None
    source = found.open([whole])
    assert source is not None and source.rows == 2
    store.rm("/windows-of-a-test", recursive=True)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"by": "time"}, "windows by time: name its column and width"),
        ({"by": "folder", "width": 3600.0}, "windows by folder: leave out column and width"),
        ({"by": "file", "marker": "_SUCCESS"}, "marker is of windows by folder"),
        ({"marker": "a/_SUCCESS"}, "marker is the name of a file in a window's folder"),
    ],
)
def test_options_that_make_no_sense(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WindowsConfig(path="x", **options)
