"""The made-up days: the same for the same seed, items that come and go, histories of earlier days only, a config that loads."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from interformer_rec.config import run as config
from interformer_rec.data.recipes.catalog import prepare
from interformer_rec.errors import InputError

SMALL = {"partitions": "6", "rows_a_day": "500", "items_a_day": "10", "life": "2", "users": "20"}


def days_of(folder: Path) -> list[dict[str, list]]:
    return [pq.read_table(path / "part-0.parquet").to_pydict() for path in sorted((folder / "windows").iterdir())]


def test_items_come_and_go_and_no_row_knows_the_future(tmp_path: Path) -> None:
    rows = prepare("synthetic_days", str(tmp_path / "a"), None, SMALL)
    assert next(iter(rows)) == "windows/dt=2026-11-01/part-0.parquet" and list(rows.values()) == [500] * 6
    days = days_of(tmp_path / "a")
    items = [set(day["item_id"]) for day in days]
    assert items[0] & items[1] and not items[0] & items[2] and max(items[5]) < 60
    clicked: dict[int, list[int]] = {}
    for day in days:
        for user, history, categories in zip(day["user_id"], day["hist_item_id"], day["hist_category"], strict=True):
            assert history == clicked.get(user, [])[-20:] and categories == [item % 12 for item in history]
        for user, item, label in zip(day["user_id"], day["item_id"], day["label"], strict=True):
            if label:
                clicked.setdefault(user, []).append(item)
    rates = [sum(day["label"]) / 500 for day in days]
    assert max(rates) - min(rates) > 0.05
    again = prepare("synthetic_days", str(tmp_path / "b"), None, {**SMALL, "partitions": "3"})
    assert days_of(tmp_path / "b") == days[:3] and len(again) == 3


def test_its_config_trains_on_windows(tmp_path: Path) -> None:
    prepare("synthetic_days", str(tmp_path / "a"), None, SMALL)
    loaded = config.load(tmp_path / "a" / "config.yaml")
    assert loaded.data.windows is not None and loaded.data.windows.path == f"{tmp_path}/a/windows"
    assert (tmp_path / "a" / "windows" / "dt=2026-11-06" / "_SUCCESS").exists()


def test_what_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="option life of the synthetic days is 0; the least is 1"):
        prepare("synthetic_days", str(tmp_path / "a"), None, {"life": "0"})
