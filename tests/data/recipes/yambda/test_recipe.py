"""Yambda's recipe on hand-made files in both published forms: rows by day, histories, the holdout, errors."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.config import run as config
from interformer_rec.data.recipes import user_buckets
from interformer_rec.data.recipes.catalog import prepare, prepared
from interformer_rec.errors import InputError
from interformer_rec.training import run

DAY = 86_400
# user, item, second, kind, played ratio; sorted by user and time, as published
EVENTS = [
    (7, 10, 0, "listen", 100),
    (7, 10, 5, "like", None),
    (7, 11, 20, "listen", 49),
    (7, 12, 20, "listen", 50),  # the same five seconds: neither is in the other's history
    (7, 12, 25, "dislike", None),
    (7, 12, 30, "unlike", None),
    (7, 13, DAY, "listen", 120),
    (7, 10, 2 * DAY + 3600, "listen", 0),
    (9, 11, DAY + 5, "listen", 80),
    (9, 10, 2 * DAY, "listen", 10),
]
TYPES = {
    **{"uid": pa.uint32(), "timestamp": pa.uint32(), "item_id": pa.uint32(), "is_organic": pa.uint8()},
    **{"played_ratio_pct": pa.uint16(), "track_length_seconds": pa.uint32()},
    "event_type": pa.dictionary(pa.int32(), pa.string()),
}


def _columns(events: list[tuple]) -> dict[str, list[Any]]:
    return {
        **{"uid": [event[0] for event in events], "timestamp": [event[2] for event in events]},
        **{"item_id": [event[1] for event in events], "is_organic": [event[1] % 2 for event in events]},
        "played_ratio_pct": [event[4] for event in events],
        "track_length_seconds": [None if event[4] is None else 10 * event[1] for event in events],
        "event_type": [event[3] for event in events],
    }


def _flat(folder: Path, events: list[tuple] = EVENTS) -> Path:
    columns = _columns(events)
    return _raw(folder, pa.table({name: pa.array(columns[name], type_) for name, type_ in TYPES.items()}))


def _sequential(folder: Path, plural: bool) -> Path:
    users = sorted({event[0] for event in EVENTS})
    of_user = [_columns([event for event in EVENTS if event[0] == user]) for user in users]
    columns = {"uid": pa.array(users, pa.uint32())}
    for name, type_ in TYPES.items():
        if name != "uid":
            stored = name + "s" if plural and name in ("item_id", "timestamp") else name
            type_ = pa.string() if name == "event_type" else type_
            columns[stored] = pa.array([one[name] for one in of_user], pa.list_(type_))
    return _raw(folder, pa.table(columns))


def _raw(folder: Path, log: pa.Table) -> Path:
    folder.mkdir(exist_ok=True)
    pq.write_table(log, folder / "multi_event.parquet")
    for name in ("artist", "album"):
        ids = pa.table({f"{name}_id": [3, 2, 4, 5], "item_id": [10, 10, 11, 12]})
        pq.write_table(ids, folder / f"{name}_item_mapping.parquet")
    return folder


def _prepare(raw: Path, out: Path, **options: str) -> dict[str, list[dict[str, Any]]]:
    chosen = {"days": "0:2", **options}
    rows = prepare("yambda", str(out), str(raw), chosen)
    assert prepared("yambda", str(out), chosen) == rows
    return {name: pq.ParquetFile(out / name).read().to_pylist() for name in rows}


def test_a_row_is_a_listen_and_the_last_day_is_held_out(tmp_path: Path) -> None:
    files = _prepare(_flat(tmp_path / "raw"), tmp_path / "out")
    assert list(files) == [f"{day}/part-000.parquet" for day in ("train/day=000", "train/day=001", "holdout/day=002")]
    listens = [(row["user_id"], row["item_id"], row["listen_plus"]) for rows in files.values() for row in rows]
    assert listens == [(7, 10, 1), (7, 11, 0), (7, 12, 1), (7, 13, 1), (9, 11, 1), (9, 10, 0), (7, 10, 0)]
    last = files["holdout/day=002/part-000.parquet"][-1]
    assert (last["day"], last["hour"], last["artist_id"], last["album_id"]) == (2, 1, 2, 2)
    assert (last["is_organic"], last["track_length_seconds"]) == (0, 100)
    assert files["train/day=001/part-000.parquet"][0]["artist_id"] is None  # the mapping lacks track 13
    assert "played_ratio_pct" not in last


def test_histories_are_strictly_earlier_by_kind(tmp_path: Path) -> None:
    files = _prepare(_flat(tmp_path / "raw"), tmp_path / "out")
    first, second, third = files["train/day=000/part-000.parquet"]
    assert [first[f"{name}_item_id"] for name in ("listen_plus", "skip", "like")] == [[], [], []]
    for row in (second, third):
        assert [row[f"{name}_item_id"] for name in ("listen_plus", "skip", "like")] == [[10], [], [10]]
    last = files["holdout/day=002/part-000.parquet"][-1]
    assert last["listen_plus_item_id"] == [10, 12, 13] and last["listen_plus_timestamp"] == [0, 20, DAY]
    assert last["listen_plus_artist_id"] == [2, 5, None] and last["skip_item_id"] == [11]
    short = _prepare(_flat(tmp_path / "raw"), tmp_path / "short", history="1", days="1:2")
    assert short["holdout/day=002/part-000.parquet"][-1]["listen_plus_item_id"] == [13]
    assert all("day=000" not in name for name in short)  # earlier days fill histories only


@pytest.mark.parametrize("plural", [False, True])
def test_the_sequential_form_gives_the_same_rows(tmp_path: Path, plural: bool) -> None:
    flat = _prepare(_flat(tmp_path / "flat"), tmp_path / "out")
    assert flat == _prepare(_sequential(tmp_path / "sequential", plural), tmp_path / "other")


def test_buckets_do_not_change_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = _flat(tmp_path / "raw")
    whole = _prepare(raw, tmp_path / "one")
    monkeypatch.setattr(user_buckets, "BUCKET_BYTES", 200)
    parts = _prepare(raw, tmp_path / "many")
    assert len(parts) > len(whole)
    for day in ("train/day=000", "train/day=001", "holdout/day=002"):
        rows = [
            sorted(str(row) for name, found in one.items() if name.startswith(day) for row in found)
            for one in (whole, parts)
        ]
        assert rows[0] == rows[1] and rows[0]


def test_wrong_files_are_named(tmp_path: Path) -> None:
    for event, match in (
        ((7, 10, 0, "skip", None), "has the event_type 'skip'; it must be one of listen, like"),
        ((7, 10, 0, "listen", None), "has a listen without played_ratio_pct"),
    ):
        with pytest.raises(InputError, match=match):
            _prepare(_flat(tmp_path / "raw", [event, *EVENTS]), tmp_path / "out")
    raw = _flat(tmp_path / "raw")
    for days, match in (("5", "option days is '5'; write"), ("2:2", "option days"), ("8:9", "no row for train")):
        with pytest.raises(InputError, match=match):
            _prepare(raw, tmp_path / "out", days=days)
    with pytest.raises(InputError, match="option history is 0"):
        _prepare(raw, tmp_path / "out", history="0")
    (raw / "other").mkdir()
    for name in ("multi_event.parquet",):
        (raw / name).rename(raw / "other" / name)
    with pytest.raises(InputError, match=r"has 2 files multi_event\.parquet"):
        _flat(tmp_path / "raw" / "more")
        _prepare(raw, tmp_path / "out")
    with pytest.raises(InputError, match=r"cannot read .*multi_event"):
        (raw / "multi_event.parquet").write_bytes(b"PAR1")
        _prepare(raw, tmp_path / "out")
    with pytest.raises(InputError, match=r"not downloaded by this command: get one multi_event\.parquet"):
        prepare("yambda", str(tmp_path / "out"))


def test_the_written_config_trains_and_has_the_columns_of_the_shipped_one(tmp_path: Path) -> None:
    events = [
        (user, 10 + (user + step) % 5, step * DAY // 8 + 5 * user, "listen", 100 * ((user + step) % 2))
        for user in range(12)
        for step in range(24)
    ]
    prepare("yambda", str(tmp_path / "out"), str(_flat(tmp_path / "raw", events)), {"days": "0:2", "history": "4"})
    loaded = config.load(
        tmp_path / "out" / "config.yaml",
        [f"training.out={tmp_path / 'run'}", "training.max_steps=2", "data.batch_size=32", "model.layers=1"],
    )
    shipped = config.load(Path(__file__).parents[4] / "configs" / "yambda_daily.yaml")
    assert set(loaded.features.columns()) == set(shipped.features.columns())
    assert not {"timestamp", "day"} & set(shipped.features.columns())
    assert run.train(loaded) == 0
