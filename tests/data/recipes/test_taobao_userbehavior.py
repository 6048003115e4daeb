"""Taobao UserBehavior's recipe on a hand-made file: which clicks become rows, drawn products, histories, errors."""

from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from interformer_rec.config import run as config
from interformer_rec.data.recipes import user_buckets
from interformer_rec.data.recipes.catalog import prepare
from interformer_rec.errors import InputError

SPLITS = {"train": "2017-11-29:2017-12-01", "valid": "2017-12-02:2017-12-02", "test": "2017-12-03:2017-12-03"}


def _at(day: int, hour: int) -> int:
    """Hour of a day counted from 25 November 2017, local time (UTC+8), as Unix seconds."""
    start = datetime(2017, 11, 25, tzinfo=timezone(timedelta(hours=8)))
    return int((start + timedelta(days=day, hours=hour)).timestamp())


EVENTS = [
    (7, 100, 5, "pv", _at(0, 1)),
    (7, 101, 5, "cart", _at(1, 1)),
    (7, 102, 6, "pv", _at(4, 9)),
    (7, 103, 6, "pv", _at(4, 23)),  # the last of 29 November: a row
    (7, 104, 6, "buy", _at(4, 23)),  # the same second: not in its history
    (7, 100, 5, "pv", _at(7, 0)),  # the first hour of 2 December
    (7, 105, 7, "fav", _at(8, 1)),
    (7, 103, 6, "pv", _at(8, 2)),
    (8, 100, 5, "pv", _at(4, 5)),
    (8, 102, 6, "pv", _at(8, 23)),
    (8, 101, 5, "pv", _at(9, 1)),  # a day too late
]


def _file(folder: Path, events: list[tuple] = EVENTS) -> Path:
    folder.mkdir(exist_ok=True)
    lines = "".join(",".join(map(str, event)) + "\n" for event in events)
    (folder / "UserBehavior.csv").write_text(lines)
    return folder


pytestmark = pytest.mark.filterwarnings("ignore:.*the owners count", "ignore:1 rows of .* are outside")


def _prepare(raw: Path, out: Path, **options: str) -> dict[str, list[dict]]:
    prepare("taobao_userbehavior", str(out), str(raw), {**SPLITS, **options})
    return {split: pq.read_table(out / f"{split}.parquet").to_pylist() for split in SPLITS}


def test_last_clicks_of_a_day_become_rows(tmp_path: Path) -> None:
    rows = _prepare(_file(tmp_path / "raw"), tmp_path / "out", negatives="2")
    clicked = {
        split: [(row["user_id"], row["item_id"]) for row in part if row["label"]] for split, part in rows.items()
    }
    assert clicked == {"train": [(8, 100), (7, 103)], "valid": [(7, 100)], "test": [(7, 103), (8, 102)]}
    assert [row["label"] for row in rows["train"]] == [1, 0, 0, 1, 0, 0]
    assert rows["valid"][0]["hour"] == 0 and rows["valid"][0]["weekday"] == 5  # 2 December 2017 was a Saturday


def test_drawn_products_differ_and_come_from_training_days(tmp_path: Path) -> None:
    categories = {item: category for _, item, category, _, _ in EVENTS}
    rows = _prepare(_file(tmp_path / "raw"), tmp_path / "out", negatives="9")
    for part in rows.values():
        for row in part:
            assert row["category_id"] == categories[row["item_id"]]
            clicked = next(other for other in part if other["label"] and other["timestamp"] == row["timestamp"])
            if not row["label"]:
                assert row["item_id"] in {100, 102, 103} - {clicked["item_id"]}
                histories = [name for name in row if name.startswith(("click_", "cart_", "buy_", "favourite_"))]
                assert len(histories) == 12 and all(row[name] == clicked[name] for name in histories)


def test_products_are_drawn_as_often_as_they_were_clicked(tmp_path: Path) -> None:
    counts = {1: 1200, 2: 600, 3: 200}
    items = [item for item, count in counts.items() for _ in range(count)]
    events = [(user, item, 1, "pv", _at(5, 3)) for user, item in enumerate(items)]
    # a product that is clicked only after the training days
    events += [(user, 9, 1, "pv", _at(day, 3)) for user in range(3000, 4000) for day in (7, 8)]
    rows = _prepare(_file(tmp_path / "raw", events), tmp_path / "out")
    drawn = Counter(row["item_id"] for row in rows["valid"] if not row["label"])
    assert sum(drawn.values()) == 1000 and 9 not in drawn
    for item, count in counts.items():
        assert drawn[item] == pytest.approx(count / 2, abs=60)  # 4 deviations of a share of 1,000


def test_histories_are_strictly_earlier_by_behaviour(tmp_path: Path) -> None:
    rows = _prepare(_file(tmp_path / "raw"), tmp_path / "out")
    train, test = (next(r for r in rows[split] if r["user_id"] == 7) for split in ("train", "test"))
    assert train["click_item_id"] == [100, 102] and train["cart_item_id"] == [101] and train["buy_item_id"] == []
    assert train["click_category_id"] == [5, 6] and train["click_timestamp"] == [_at(0, 1), _at(4, 9)]
    assert test["click_item_id"] == [100, 102, 103, 100] and test["buy_item_id"] == [104]
    assert test["favourite_item_id"] == [105]
    short = _prepare(_file(tmp_path / "raw"), tmp_path / "short", history="1")
    assert short["test"][0]["click_item_id"] == [100]


def test_buckets_do_not_change_what_was_clicked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = _file(tmp_path / "raw")
    whole = _prepare(raw, tmp_path / "one")
    assert whole == _prepare(raw, tmp_path / "again")
    assert config.load(tmp_path / "one" / "config.yaml").features.group == "user_id"
    monkeypatch.setattr(user_buckets, "BUCKET_BYTES", 100)
    parts = _prepare(raw, tmp_path / "many")
    for split in whole:
        clicked = [sorted(str(row) for row in rows if row["label"]) for rows in (whole[split], parts[split])]
        assert clicked[0] == clicked[1]


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="1 rows of .* are outside 25 November"):
        _prepare(_file(tmp_path / "raw"), tmp_path / "out")
    with pytest.raises(InputError, match="has the behaviour 'view'; it must be one of pv, cart, fav, buy"):
        _prepare(_file(tmp_path / "raw", [(1, 2, 3, "view", _at(4, 1))]), tmp_path / "out")
    with pytest.raises(InputError, match="has 4 columns in its first line, expected 5: user_id"):
        _prepare(_file(tmp_path / "raw", [(1, 2, 3, "pv")]), tmp_path / "out")
    with pytest.raises(InputError, match="has 1 clicked products up to the last training day"):
        _prepare(_file(tmp_path / "raw", [(1, 2, 3, "pv", _at(4, 1))]), tmp_path / "out")
    with pytest.raises(InputError, match="option negatives is 0"):
        _prepare(_file(tmp_path / "raw"), tmp_path / "out", negatives="0")
