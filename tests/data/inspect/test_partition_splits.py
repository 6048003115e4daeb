"""Folders by time become train, valid and test: which files each glob names, and what is no such folder."""

import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from interformer_rec.config.run import parse
from interformer_rec.data.files.source import open_source
from interformer_rec.data.inspect.command import inspect_folder
from interformer_rec.data.inspect.partition_splits import by_time, key_of


def _files(names):
    return [f"{name}/part-{part}.parquet" for name in names for part in range(2)]


@pytest.mark.parametrize(
    ("names", "train", "valid", "test"),
    [
        ([f"week={week:02d}" for week in range(1, 54)], "week=[0123]*", "week=4*", "week=5*"),
        ([f"dt=2026-11-{day:02d}" for day in range(1, 15)], "dt=2026-11-0*", "dt=2026-11-1[01]*", "dt=2026-11-1[234]*"),
        ([f"month={month:02d}" for month in range(1, 13)], "month=0*", "month=10*", "month=1[12]*"),
        ([f"day={day}" for day in range(4)], "day=[01]*", "day=2*", "day=3*"),
        (
            [f"dt=2026-11-0{day}/hr=0{hour}" for day in range(1, 6) for hour in range(3)],
            "dt=2026-11-0[123]*",
            None,
            None,
        ),
    ],
)
def test_the_newest_partitions_are_held_out(names, train, valid, test):
    tails = _files(names)
    globs = by_time(tails)
    below = "**/*.parquet" if "hr" in names[0] else "*.parquet"
    assert globs["train"] == f"{train}/{below}"
    if valid:
        assert (globs["valid"], globs["test"]) == (f"{valid}/{below}", f"{test}/{below}")
    found = {split: [tail for tail in tails if _matches(glob, tail)] for split, glob in globs.items()}
    assert found["train"] + found["valid"] + found["test"] == tails  # each file once, in time order
    assert all(found.values())


def _matches(glob: str, tail: str) -> bool:
    pattern = glob.replace(".", r"\.").replace("**/", "(?:.+/)?").replace("*", "[^/]*")
    return re.fullmatch(pattern, tail) is not None


@pytest.mark.parametrize(
    "names",
    [
        [f"country={name}" for name in ("de", "fr", "nl", "uk", "us")],  # no time
        [f"day={day}" for day in range(1, 13)],  # 1, 10, 11, 2, ...: names that do not sort by time
        [f"dt=2026-11-0{day}" for day in range(1, 4)],  # too few
        [f"part-{part}" for part in range(9)],
        ["dt=2026-11-01"],
    ],
)
def test_other_folders_are_not_cut(names):
    assert by_time(_files(names)) == {}


def test_files_without_folders_are_not_cut():
    assert by_time(["a.parquet", "b.parquet"]) == {}
    assert by_time([]) == {}


def test_a_draft_of_weeks_is_split(tmp_path):
    for week in range(1, 31):
        folder = tmp_path / "shop" / f"week={week:02d}"
        folder.mkdir(parents=True)
        rows = {"household_id": [week % 7, 1, 2, 3], "price": [1.5, 2.0, week, 4.0], "bought": [0, 1, week % 2, 1]}
        pq.write_table(pa.table(rows), folder / "part-000.parquet")
    text = inspect_folder(str(tmp_path / "shop"))
    assert "Split by week: the newest rows are for test, those before them for valid." in text
    data = parse(yaml.safe_load(text), "draft").data
    counts = [open_source(path).rows for path in (data.train, data.valid, data.test)]
    assert counts == [4 * 19, 4 * 10, 4 * 1]
    assert key_of(data.valid) == "week"
    assert parse(yaml.safe_load(text), "draft").features.group == "household_id"
