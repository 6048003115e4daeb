"""`interformer data events`: of events and of rows with histories in them, a store that gives each row its history."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.cli import main
from interformer_rec.config.data import DataConfig
from interformer_rec.data.event_store.arguments import StoreOptions
from interformer_rec.data.event_store.command import events
from interformer_rec.data.event_store.joined import open_rows
from interformer_rec.data.files.source import open_source
from interformer_rec.errors import InputError
from tests.data.event_store import samples
from tests.data.event_store.samples import MOST, STORED, features

USERS, CLOCK = 15, 60


def written(folder: Path, seed: int = 0) -> tuple[dict[str, pa.Table], pa.Table]:
    """Events in no order, in files of their own; rows with the newest MOST of them."""
    draw = np.random.default_rng(seed)
    stores = samples.events(draw, 500, USERS, CLOCK)
    for name, table in stores.items():
        (folder / name).mkdir(parents=True)
        pq.write_table(table.slice(0, 300), folder / name / "a.parquet", row_group_size=70)
        pq.write_table(table.slice(300), folder / name / "b.parquet")
    rows = samples.rows(draw, 200, USERS, CLOCK)
    return stores, samples.with_histories(rows, stores, MOST)


def histories(rows: str, **stores: str) -> dict[str, list]:
    config = {"user": "user", "time": "at", "stores": stores, "cache": str(Path(stores["seen"]).parent / "cache")}
    source = open_rows(rows, DataConfig.model_validate({"events": config}), features())
    names = ("seen_item", "seen_shop", "seen_at", "bought_item")
    return source.read(list(range(len(source.group_rows))), names).to_pydict()


@pytest.mark.parametrize("seed", range(3))
def test_a_store_of_events_gives_each_row_its_history(tmp_path, seed):
    stores, whole = written(tmp_path, seed)
    plain = samples.write_rows(
        tmp_path / "plain", whole.drop_columns(["seen_item", "seen_shop", "seen_at", "bought_item"])
    )
    made = {
        name: events(str(tmp_path / name), str(tmp_path / f"{name}-store"), StoreOptions("user", "at"))
        for name in stores
    }
    assert {one["events"] for one in made.values()} == {500} and made["seen"]["checked"]
    found = histories(plain, seen=str(tmp_path / "seen-store"), bought=str(tmp_path / "bought-store"))
    for name, values in found.items():
        assert values == whole[name].to_pylist()


def test_a_store_of_rows_gives_each_row_its_history(tmp_path):
    stores, whole = written(tmp_path)
    fat = samples.write_rows(tmp_path / "fat", whole.append_column("bought_at", _times(whole, stores["bought"])))
    seen = StoreOptions("user", "at", "seen_item,seen_shop", "seen_at", rows=str(tmp_path / "half"))
    made = events(fat, str(tmp_path / "s"), seen)
    assert made["longest history"] == MOST and made["checked"] == "read again: each row has its history"
    events(
        str(tmp_path / "half"),
        str(tmp_path / "b"),
        StoreOptions("user", "at", "bought_item", "bought_at", str(tmp_path / "plain")),
    )
    left, before = open_source(str(tmp_path / "plain")), open_source(fat)
    assert (
        left.group_rows.tolist() == before.group_rows.tolist()
        and left.schemas[0].names == samples.rows(np.random.default_rng(0), 1, 1, 1).column_names
    )
    found = histories(str(tmp_path / "plain"), seen=str(tmp_path / "s"), bought=str(tmp_path / "b"))
    for name, values in found.items():
        assert values == whole[name].to_pylist()


def _times(whole: pa.Table, bought: pa.Table) -> pa.Array:
    """Of the events of `bought` in each row, as samples.with_histories gives them to `seen`."""
    as_seen = pa.table(
        {"user": bought["user"], "at": bought["at"], **dict.fromkeys(STORED["seen"], bought["bought_item"])}
    )
    return samples.with_histories(whole.select(["user", "at"]), {"seen": as_seen, "bought": bought}, MOST)["seen_at"]


def test_rows_that_end_early_are_no_store(tmp_path):
    rows = pa.table({"user": [1, 1], "at": [6, 5], "item": [[7, 8], [7]], "when": [[3, 4], [3]]})
    pq.write_table(rows, tmp_path / "rows.parquet")
    with pytest.raises(InputError, match=r"row 1 of the file .*: 1 event\(s\) in the row, 2 before its time"):
        events(str(tmp_path / "rows.parquet"), str(tmp_path / "s"), StoreOptions("user", "at", "item", "when"))
    assert not (tmp_path / "s").exists()


def test_a_history_with_an_event_of_the_rows_own_time_is_no_store(tmp_path):
    rows = pa.table({"user": [1], "at": [5], "item": [[7, 8]], "when": [[4, 5]]})
    pq.write_table(rows, tmp_path / "rows.parquet")
    with pytest.raises(InputError, match="Its last event is at 5, the row at 5"):
        events(str(tmp_path / "rows.parquet"), str(tmp_path / "s"), StoreOptions("user", "at", "item", "when"))


def test_rows_whose_histories_end_a_delay_before_them(tmp_path):
    rows = pa.table(
        {"user": [1, 1], "at": [9, 6], "item": [[7, 8], [7]], "when": [[3, 4], [3]]}
    )  # at 6 the event of 4 is too new
    pq.write_table(rows, tmp_path / "rows.parquet")
    with pytest.raises(InputError, match=r"1 event\(s\) in the row, 2 before its time.*--delay"):
        events(str(tmp_path / "rows.parquet"), str(tmp_path / "s"), StoreOptions("user", "at", "item", "when"))
    made = events(
        str(tmp_path / "rows.parquet"), str(tmp_path / "s"), StoreOptions("user", "at", "item", "when", delay=2)
    )
    assert made["events"] == 2 and made["checked"] == "read again: each row has its history"


def test_the_same_event_twice_stays_two(tmp_path):
    rows = pa.table({"user": [1, 1], "at": [5, 6], "item": [[7, 7, 9]] * 2, "when": [[3, 3, 4]] * 2})
    pq.write_table(rows, tmp_path / "rows.parquet")
    made = events(str(tmp_path / "rows.parquet"), str(tmp_path / "s"), StoreOptions("user", "at", "item", "when"))
    assert made["events"] == 3
    found = pq.read_table(tmp_path / "s/events-00000.parquet")
    assert found.to_pydict() == {"user": [1, 1, 1], "at": [3, 3, 4], "item": [7, 7, 9]}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (StoreOptions("nobody", "at"), "--user nobody: SRC has no such column"),
        (StoreOptions("user", "at", "thing"), "SRC has no column 'thing'"),
        (StoreOptions("user", "at", "user=seen_item"), "two columns 'user'"),
        (StoreOptions("user", "seen_shop"), "has to be integer or timestamp"),
        (StoreOptions("user", "at", rows="r"), "--rows are rows without"),
        (StoreOptions("user", "at", "seen_item", "seen_shop"), "with --event-time it is a list"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, asked, said):
    written(tmp_path)
    with pytest.raises(InputError, match=said):
        events(str(tmp_path / "seen"), str(tmp_path / "s"), asked)
    assert not (tmp_path / "s").exists()


def test_events_without_a_user_are_refused(tmp_path):
    table = pa.table({"user": pa.array([1, None]), "at": [1, 2], "item": [3, 4]})
    pq.write_table(table, tmp_path / "e.parquet")
    with pytest.raises(InputError, match=r"without 'user': .*e.parquet.*row 1 of the file"):
        events(str(tmp_path / "e.parquet"), str(tmp_path / "s"), StoreOptions("user", "at"))


def test_on_the_command_line(tmp_path, capsys):
    written(tmp_path)
    options = ["--user", "user", "--time", "at", "--columns", "seen_item,shop=seen_shop", "--out", str(tmp_path / "s")]
    assert main(["data", "events", str(tmp_path / "seen"), *options]) == 0
    assert "the same events" in capsys.readouterr().out
    assert pq.read_table(tmp_path / "s/events-00000.parquet").column_names == ["user", "at", "seen_item", "shop"]
