"""Windows cut out of one data set by a time column. In: data.windows of a config; out: which there are, and the Source of each.

Window k has the rows whose time is k * width .. (k + 1) * width, counted from 1970 in UTC, or in the unit of an integer column. Listing
reads the time column of files that are new. A row group that holds rows of several windows is decoded for each of them, so files that are
sorted by time are read once.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from interformer_rec.config.windows import WindowsConfig
from interformer_rec.data.files.locate import Listing, Located, list_all
from interformer_rec.data.files.source import Source, open_files
from interformer_rec.data.windows.partitions import stamp_of
from interformer_rec.data.windows.window import Window, sizes_of
from interformer_rec.errors import InputError

MICROSECONDS = 1_000_000
DAY, HOUR = 86_400, 3_600


@dataclass(frozen=True)
class Cut:
    """The time column and the width of a window."""

    column: str
    width: float

    def windows_of(self, times: pa.ChunkedArray, where: str) -> np.ndarray:
        """(rows,) the number of each row's window. Raises InputError for a column that is no time, or a row without one."""
        if times.null_count:
            raise InputError(
                f"column {self.column!r} of {where} has {times.null_count:,} row(s) without a time (data.windows.column)"
            )
        if pa.types.is_timestamp(times.type) or pa.types.is_date(times.type):
            zone = times.type.tz if pa.types.is_timestamp(times.type) else None
            moments = times.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64()).to_numpy()
            return np.asarray(np.floor_divide(moments, max(1, round(self.width * MICROSECONDS))))
        if not pa.types.is_integer(times.type):
            raise InputError(
                f"column {self.column!r} of {where} is {times.type}, and data.windows.column is a timestamp, a date or an integer"
            )
        if self.width != int(self.width):
            raise InputError(
                f"data.windows.width is {self.width:g}, and column {self.column!r} holds integers: it must be a whole number"
            )
        low = pc.min(times).as_py()
        if low is not None and low < 0:
            raise InputError(
                f"column {self.column!r} of {where} has the time {low}: times of data.windows.column are 0 or more"
            )
        return np.asarray(times.cast(pa.int64()).to_numpy() // int(self.width))

    def name(self, window: int, integers: bool) -> str:
        """Of a window: when it begins."""
        if integers:
            return str(window * int(self.width))
        begins = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(
            microseconds=window * round(self.width * MICROSECONDS)
        )
        if self.width % DAY == 0:
            return begins.strftime("%Y-%m-%d")
        return begins.strftime("%Y-%m-%dT%H" if self.width % HOUR == 0 else "%Y-%m-%dT%H:%M:%S.%f").removesuffix(
            ".000000"
        )


@dataclass(frozen=True, eq=False)
class CutSource(Source):
    """The rows of some windows: as a Source, with the other rows of its row groups left out."""

    whole: Source | None = None
    kept: np.ndarray | None = None  # (row groups,) their places in `whole`
    cut: Cut | None = None
    numbers: tuple[int, int] = (0, 0)  # the first and the last window

    def read(self, groups: Sequence[int], columns: Sequence[str], strings: bool = False) -> pa.Table:
        """As Source.read."""
        assert self.whole is not None and self.kept is not None and self.cut is not None
        places = self.kept[np.asarray(groups)]
        names = list(dict.fromkeys([*columns, self.cut.column]))
        table = self.whole.read(places.tolist(), names, strings)
        inside = self._inside(table[self.cut.column], int(places[0]))
        return table.filter(pa.array(inside)).select(list(columns))

    def where_row(self, groups: Sequence[int], row: int) -> str:
        """As Source.where_row, counted in the file."""
        assert self.whole is not None and self.kept is not None and self.cut is not None
        ends = np.cumsum(self.group_rows[list(groups)])
        at = int(np.searchsorted(ends, row, side="right"))
        place = int(self.kept[groups[at]])
        inside = self._inside(self.whole.read([place], [self.cut.column])[self.cut.column], place)
        number = row - int(ends[at] - self.group_rows[groups[at]])
        return self.whole.where_row([place], int(np.flatnonzero(inside)[number]))

    def _inside(self, times: pa.ChunkedArray, place: int) -> np.ndarray:
        assert self.whole is not None and self.cut is not None
        windows = self.cut.windows_of(times, self.whole.where(place))
        return np.asarray((windows >= self.numbers[0]) & (windows <= self.numbers[1]))


class _Known(NamedTuple):
    """What is known of a file."""

    size: int
    modified: float | None
    checksum: int
    counts: dict[int, dict[int, int]]  # window -> row group of the file -> rows
    integers: bool


class TimeCut:
    """`by: time`; on one rank."""

    def __init__(self, options: WindowsConfig, max_decoded_bytes: int | None = None, following: bool = False) -> None:
        """`following`: the last window is not whole before a later one has a row."""
        assert options.column is not None and options.width is not None
        self._options, self._max, self._following = options, max_decoded_bytes, following
        self._cut = Cut(options.column, options.width)
        self._files: dict[str, _Known] = {}
        self._listing: Listing | None = None
        self._numbers: dict[str, int] = {}  # window's name -> its number

    def find(self) -> list[Window]:
        """The windows that have a row now. Raises InputError."""
        self._listing = listing = list_all(self._options.path)
        self._files = {info.path: self._known(info.path, info.size, stamp_of(info)) for info in listing.data}
        base, found = listing.base.rstrip("/") + "/", dict[int, list[str]]()
        for file, known in self._files.items():
            for number in known.counts:
                found.setdefault(number, []).append(file)
        integers = any(known.integers for known in self._files.values())
        self._numbers = {self._cut.name(number, integers): number for number in sorted(found)}
        last = max(found, default=0)
        open_end = "no row comes after it yet" if self._following else None
        return [
            Window(
                name,
                tuple(found[number]),
                sizes_of((file.removeprefix(base), self._files[file].checksum) for file in found[number]),
                unfinished=open_end if number == last else None,
            )
            for name, number in self._numbers.items()
        ]

    def open(self, windows: Sequence[Window]) -> Source | None:
        """The rows of windows that were found last, neighbours, as one data set; None without a window."""
        if not windows:
            return None
        assert self._listing is not None
        files = tuple(sorted({file for window in windows for file in window.files}))
        whole = open_files(self._options.path, Located(self._listing.filesystem, files, self._listing.base), self._max)
        numbers = [self._numbers[window.name] for window in windows]
        rows = np.array([
            sum(self._files[files[file]].counts.get(number, {}).get(int(place), 0) for number in numbers)
            for file, place in zip(whole.group_file, whole.group_index, strict=True)
        ], np.int64)  # fmt: skip
        kept = np.flatnonzero(rows)
        values = {field.name: getattr(whole, field.name) for field in fields(Source)}
        of_groups = {name: values[name][kept] for name in ("group_file", "group_index", "group_start")}
        checksum = zlib.crc32(rows.astype("<i8").tobytes(), whole.checksum)
        return CutSource(
            **{**values, **of_groups, "group_rows": rows[kept], "checksum": checksum},
            whole=whole,
            kept=kept,
            cut=self._cut,
            numbers=(min(numbers), max(numbers)),
        )

    def _known(self, path: str, size: int, modified: float | None) -> _Known:
        before = self._files.get(path)
        if before is not None and (before.size, before.modified) == (size, modified):
            return before
        assert self._listing is not None
        source = open_files(
            self._options.path, Located(self._listing.filesystem, (path,), self._listing.base), self._max
        )
        integers = pa.types.is_integer(source.require([self._cut.column]).field(0).type)
        counts: dict[int, dict[int, int]] = {}
        for group in range(len(source.group_rows)):
            times = source.read([group], [self._cut.column])[self._cut.column]
            numbers, rows = np.unique(self._cut.windows_of(times, source.where(group)), return_counts=True)
            for number, count in zip(numbers.tolist(), rows.tolist(), strict=True):
                counts.setdefault(number, {})[int(source.group_index[group])] = count
        return _Known(size, modified, source.checksum, counts, integers)
