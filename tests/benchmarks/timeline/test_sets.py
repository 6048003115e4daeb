"""Windows hold every row once, in order of time; a share is of users."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.timeline.sets import SETS, cut, link, window_names


@pytest.fixture
def table(tmp_path: Path) -> pa.Table:
    random = np.random.default_rng(0)
    seconds = np.datetime64("1997-09-20", "s").astype(np.int64) + random.integers(0, 100 * 86_400, 500)
    made = pa.table({"timestamp": seconds, "user_id": random.integers(0, 40, 500), "row": np.arange(500)})
    (tmp_path / "in").mkdir()
    for part in range(2):
        pq.write_table(made.slice(part * 250, 250), tmp_path / "in" / f"{part}.parquet")
    return made


def read(places: list[Path]) -> pa.Table:
    return pa.concat_tables([pq.ParquetFile(place / "part-0.parquet").read() for place in places])


def test_months(table, tmp_path):
    places = cut(SETS["ml_100k"], tmp_path / "in", "user_id", tmp_path / "out", 1.0, 0)
    assert [place.name for place in places] == ["dt=1997-09", "dt=1997-10", "dt=1997-11", "dt=1997-12"]
    rows = read(places)
    assert sorted(rows["row"].to_pylist()) == list(range(500))
    assert rows["timestamp"].to_pylist() == sorted(table["timestamp"].to_pylist())
    october = read(places[1:2])["timestamp"].to_numpy().astype("datetime64[s]")
    assert october.min() >= np.datetime64("1997-10-01") and october.max() < np.datetime64("1997-11-01")


def test_share_is_of_users(table, tmp_path):
    kept = [
        read(cut(SETS["ml_100k"], tmp_path / "in", "user_id", tmp_path / f"out{number}", 0.25, seed))
        for number, seed in enumerate((0, 0, 1))
    ]
    users = [set(rows["user_id"].to_pylist()) for rows in kept]
    assert len(users[0]) == 10 and users[0] == users[1] != users[2]
    whole = table.filter(pa.array([user in users[0] for user in table["user_id"].to_pylist()]))
    assert sorted(kept[0]["row"].to_pylist()) == sorted(whole["row"].to_pylist())


def test_names_are_in_order_of_time():
    days = np.array(["2022-04-08T15:59", "2022-04-08T16:00"], "datetime64[ms]").astype(np.int64)
    assert window_names(days, SETS["kuairand_pure"]).tolist() == ["2022-04-08", "2022-04-09"], "days of UTC+8"
    weeks = window_names(np.array([10, 9]), SETS["completejourney"]).tolist()
    assert sorted(weeks) == [weeks[1], weeks[0]]


def test_links_are_the_windows(table, tmp_path):
    places = cut(replace(SETS["ml_100k"], width="D"), tmp_path / "in", "user_id", tmp_path / "out", 1.0, 0)
    linked = link(places[:3], tmp_path / "data")
    link(places[3:5], tmp_path / "data")
    assert read(sorted(linked.iterdir())).equals(read(places[:5]))
