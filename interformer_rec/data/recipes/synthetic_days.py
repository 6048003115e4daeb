"""Made-up days whose items come and go, to train on in time order. In: options; out: a folder a day below windows/, and config.yaml.

Every day `items_a_day` items appear, which live for `life` days; ids are never used twice. A row shows an item that lives to a user, with
the items of the same user's clicks on earlier days as history. The label is a click:

    logit = quality of the item + taste of the user for the item's category + DRIFT * sin(2 pi day / PERIOD) - 1

So what is learned of an item is of use while it lives, what is learned of a user for ever, and a model that stays as it is loses its
calibration.
"""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from interformer_rec.data.recipes import run_config
from interformer_rec.errors import InputError

DEFAULTS: dict[str, int | str] = {
    "partitions": 14,
    "rows_a_day": 4_000,
    "items_a_day": 60,
    "life": 4,
    "users": 400,
    "seed": 0,
}
FIRST = date(2026, 11, 1)
CATEGORIES, HISTORY, ROW_GROUP = 12, 20, 2_048
QUALITY, TASTE, DRIFT, PERIOD = 1.2, 0.8, 0.7, 10


def write(folder: Path, out: Path, raw: Path | None, options: dict[str, Any]) -> dict[str, int]:
    """Write the days into `folder`; rows of each file. config.yaml names `out`, where the folder will stand."""
    for name, value in options.items():
        if value < (0 if name == "seed" else 1):
            raise InputError(
                f"option {name} of the synthetic days is {value}; the least is {0 if name == 'seed' else 1}"
            )
    users, days = _Users(options["users"], options["seed"]), options["partitions"]
    rows: dict[str, int] = {}
    for day in range(days):
        table = _day(day, users, options)
        place = folder / "windows" / f"dt={FIRST + timedelta(days=day)}"
        place.mkdir(parents=True)
        pq.write_table(table, place / "part-0.parquet", row_group_size=ROW_GROUP, compression="zstd")
        (place / "_SUCCESS").touch()
        rows[f"windows/{place.name}/part-0.parquet"] = len(table)
    (folder / "config.yaml").write_text(_config(out), encoding="utf-8")
    return rows


class _Users:
    """What users like, and what they have clicked on."""

    def __init__(self, count: int, seed: int) -> None:
        self.taste = np.random.default_rng([seed, 1]).normal(0, TASTE, (count, CATEGORIES))
        self.clicked: list[list[int]] = [[] for _ in range(count)]  # items, oldest first


def _day(day: int, users: _Users, options: dict[str, Any]) -> pa.Table:
    """The rows of a day; afterwards their clicks are in the users' histories."""
    random = np.random.default_rng([options["seed"], 2, day])
    count, born = options["rows_a_day"], options["items_a_day"]
    oldest = max(0, day - options["life"] + 1) * born
    item = random.integers(oldest, (day + 1) * born, count)
    user = random.integers(0, len(users.clicked), count)
    category = item % CATEGORIES
    drift = DRIFT * np.sin(2 * np.pi * day / PERIOD) - 1
    logit = _quality(item, options["seed"]) + users.taste[user, category] + drift
    label = random.random(count) < 1 / (1 + np.exp(-logit))
    histories = [users.clicked[one][-HISTORY:] for one in user]
    table = pa.table({
        "label": label.astype(np.int8),
        "user_id": user,
        "item_id": item,
        "category": category,
        "hour": random.integers(0, 24, count).astype(np.float32),
        "hist_item_id": pa.array(histories, pa.list_(pa.int64())),
        "hist_category": pa.array([[one % CATEGORIES for one in history] for history in histories], pa.list_(pa.int64())),
    })  # fmt: skip
    for one, shown in zip(user[label].tolist(), item[label].tolist(), strict=True):
        users.clicked[one] = [*users.clicked[one][-HISTORY + 1 :], shown]
    return table


def _quality(item: np.ndarray, seed: int) -> np.ndarray:
    """Of each item, the same on every day."""
    made = {one: np.random.default_rng([seed, 3, one]).normal(0, QUALITY) for one in np.unique(item).tolist()}
    return np.array([made[one] for one in item.tolist()])


def _config(out: Path) -> str:
    columns = {name: (f"hist_{name}", name) for name in ("item_id", "category")}
    tree = {
        "name": "synthetic_days",
        "data": {"windows": {"path": f"{out}/windows", "marker": "_SUCCESS"}, "batch_size": 256},
        "features": {
            "tables": {"user_id": {}, "item_id": {}, "category": {}},
            "ids": ["user_id", "item_id", "category"],
            "dense": [{"name": "hour", "standardise": True}],
            "sequences": [run_config.sequence("clicked", HISTORY, columns)],
            "candidate": ["item_id", "category"],
            "labels": ["label"],
            "group": "user_id",
        },
        "model": {"embedding_dim": 8, "d": 16},
    }
    text = yaml.safe_dump(tree, sort_keys=False, default_flow_style=None, width=110)
    return f"# Written by `interformer data synthetic_days`: each day is evaluated on, and then trained on.\n{text}"
