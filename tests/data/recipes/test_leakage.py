"""The leakage check passes clean splits and names the file, row and column of a leak."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.data.recipes import leakage
from interformer_rec.errors import InputError


def _write(path: Path, times: list[int], events: list[list[int] | None]) -> Path:
    table = pa.table({"time": pa.array(times, pa.int64()), "hist": pa.array(events, pa.list_(pa.int64()))})
    pq.write_table(table, path, row_group_size=2)
    return path


def test_clean_splits_pass(tmp_path: Path) -> None:
    train = _write(tmp_path / "train.parquet", [10, 5, 20], [[8, 9], None, [5, 19]])
    empty = _write(tmp_path / "none.parquet", [], [])
    valid = _write(tmp_path / "valid.parquet", [30, 21], [[10, 20], []])  # a history may reach into train
    leakage.check([train, empty, valid], "time", ["hist"])


@pytest.mark.parametrize("event", [20, 21])
def test_an_event_at_or_after_its_row_is_named(tmp_path: Path, event: int) -> None:
    train = _write(tmp_path / "train.parquet", [10, 5, 20], [[8, 9], [], [5, event]])
    with pytest.raises(InputError, match=rf"row 2 of .*train\.parquet is at 20, but hist holds an event at {event}"):
        leakage.check([train], "time", ["hist"])


def test_splits_that_meet_are_named(tmp_path: Path) -> None:
    train = _write(tmp_path / "train.parquet", [10, 30, 20, 12], [[]] * 4)
    valid = _write(tmp_path / "valid.parquet", [40, 30], [[]] * 2)
    with pytest.raises(InputError, match=r"valid\.parquet begins at time 30, but .*train\.parquet reaches to 30"):
        leakage.check([train, valid], "time")
