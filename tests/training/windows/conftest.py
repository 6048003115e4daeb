"""The rows of the synthetic data set as windows of a folder each, and a config that trains on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.config.run import RunConfig

ROWS = 300  # of a window
DAYS = 5


@pytest.fixture(scope="session")
def days(synthetic: Path) -> list[pa.Table]:
    """The rows of each day."""
    table = pa.concat_tables([pq.read_table(file) for file in sorted((synthetic / "train").glob("*.parquet"))])
    return [table.slice(day * ROWS, ROWS) for day in range(DAYS)]


def folder_of(place: Path, day: int) -> Path:
    """The folder of the window of a day, counted from 0."""
    return place / f"dt=2026-11-{day + 1:02}"


@pytest.fixture
def write(days: list[pa.Table], tmp_path: Path) -> Callable[..., Path]:
    """A function: days -> their windows are there; returns the place of all windows."""

    def put(*which: int, rows: int = ROWS) -> Path:
        for day in which:
            folder = folder_of(tmp_path / "windows", day)
            folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(days[day].slice(0, rows), folder / "part-0.parquet", row_group_size=100)
            (folder / "_SUCCESS").touch()
        return tmp_path / "windows"

    return put


@pytest.fixture
def windowed(small: Callable[..., RunConfig], tmp_path: Path) -> Callable[..., RunConfig]:
    """A function: overrides -> a config that trains on the windows of `write`."""
    beside = ("data.train=null", "data.valid=null", "data.test=null", "training.epochs=1", "data.batch_size=64")
    place = f"data.windows.path={tmp_path}/windows"
    return lambda *overrides: small(*beside, "training.log_every_steps=2", place, *overrides)
