"""Taobao's UserBehavior.csv (clicks, carts, favourites, purchases of nine days in 2017) -> train, valid and test Parquet
files.

The file holds what users did, not what they were shown, so the label is built as the literature does (DIEN, MIMN, SIM): a
positive row is a user's last click of a local day (UTC+8), and each is followed by `negatives` rows with the same user, time
and histories, and a drawn product. Products are drawn in proportion to their clicks up to the last training day, never
the clicked one, from a seeded generator; the user may have clicked a drawn product at another time. Figures on such rows
compare models with each other, and say little about real click-through rates.

Four histories, one a behaviour, of the user's strictly earlier events, oldest first, whichever split they are in; days
before train fill histories only. Rows with a time outside the nine days (a few thousand, as published) are left out.
The log is divided into buckets of users on disk: 100 million rows (3.5 GB) need about 2 GB of memory."""

import warnings
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from interformer_rec.data.recipes import leakage, raw_files, run_config
from interformer_rec.data.recipes.day_splits import DAY, EAST_8, SPLITS, DaySplits, local_days
from interformer_rec.data.recipes.earlier_events import EarlierEvents
from interformer_rec.data.recipes.raw_files import Source
from interformer_rec.data.recipes.split_files import SplitFiles
from interformer_rec.data.recipes.user_buckets import UserBuckets
from interformer_rec.errors import InputError

SOURCE = Source(
    name="taobao_userbehavior",
    url="https://tianchi.aliyun.com/dataset/649",
    licence="Alibaba's terms at the address",
    files="UserBehavior.csv (100,150,807 rows: user, item, category, behaviour, second; no header line)",
)
FILE, ROWS = "UserBehavior.csv", 100_150_807
COLUMNS = {
    **{name: pa.int64() for name in ("user_id", "item_id", "category_id")},
    "behaviour": pa.string(),
    "timestamp": pa.int64(),
}
BEHAVIOURS = {"click": "pv", "cart": "cart", "favourite": "fav", "buy": "buy"}  # history -> as in the file
FIRST_DAY, LAST_DAY = (int(np.datetime64(day, "D").astype(int)) for day in ("2017-11-25", "2017-12-03"))
CLICKS = 4096  # that become rows at a time
OPTIONS: dict[str, int | str] = {
    "train": "2017-11-28:2017-12-01",
    "valid": "2017-12-02:2017-12-02",
    "test": "2017-12-03:2017-12-03",
    "history": 50,  # events kept of each behaviour
    "negatives": 1,  # drawn products for a clicked one
    "seed": 0,
}


def write(folder: Path, out: Path, raw: Path | None, options: dict[str, Any]) -> dict[str, int]:
    """Write the splits and config.yaml into `folder`, check them for leakage; rows of each.

    Raises InputError when the file is missing or wrong, an option cannot be, or a split has no row.
    """
    days = DaySplits.of(options)
    for name in ("history", "negatives"):
        if options[name] < 1:
            raise InputError(f"option {name} is {options[name]}; the least is 1")
    path = raw_files.find(raw, FILE, SOURCE)[0]
    schema = pa.schema([(name, pa.int8() if name == "behaviour" else type_) for name, type_ in COLUMNS.items()])
    with UserBuckets(folder, path.stat().st_size, schema) as buckets:
        items = _Items()
        _distribute(path, buckets, items, days.days["train"][1])
        with SplitFiles(folder) as files:
            for number, bucket in enumerate(buckets):
                generator = np.random.default_rng([options["seed"], number])
                _Behaviour(bucket, options["history"]).write(days, items, options["negatives"], generator, files)
    rows = files.counts("are the options train, valid and test days of the file (25 November to 3 December 2017)?")
    times = [f"{name}_timestamp" for name in BEHAVIOURS]
    leakage.check([folder / f"{split}.parquet" for split in SPLITS], "timestamp", times)
    run_config.write(folder, out, SOURCE.name, _features(options["history"]))
    return rows


class _Items:
    """How often each product was clicked in the days up to the end of train, and its category."""

    def __init__(self) -> None:
        self._clicks, self._category = np.zeros(0, np.int64), np.zeros(0, np.int64)

    def see(self, items: np.ndarray, categories: np.ndarray, counts: np.ndarray) -> None:
        """Products and categories (n,), and which of these events count as clicks (n,)."""
        more = max(0, int(items.max(initial=-1)) + 1 - len(self._clicks))
        self._clicks = np.r_[self._clicks, np.zeros(more, np.int64)]
        self._category = np.r_[self._category, np.zeros(more, np.int64)]
        self._clicks += np.bincount(items[counts], minlength=len(self._clicks))
        self._category[items] = categories

    @cached_property
    def _clicked(self) -> tuple[np.ndarray, np.ndarray]:
        """The products that were clicked, and the clicks on them and on those before them; nothing is seen after this."""
        known = np.flatnonzero(self._clicks)
        if len(known) < 2:
            raise InputError(f"{FILE} has {len(known)} clicked products up to the last training day; drawing takes 2")
        return known, np.cumsum(self._clicks[known])

    def draw(self, clicked: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Another product for each clicked one (n,), and its category (n,)."""
        known, reach = self._clicked
        place = np.searchsorted(reach, generator.integers(0, reach[-1], len(clicked)), side="right")
        place = (place + (known[place] == clicked)) % len(known)  # the clicked one itself: its neighbour
        return known[place], self._category[known[place]]


def _distribute(path: Path, buckets: UserBuckets, items: _Items, last_training_day: int) -> None:
    """Put every row of the nine days into its bucket, behaviours as their place in BEHAVIOURS; count clicks."""
    kinds = pa.array(BEHAVIOURS.values())
    rows = outside = 0
    for batch in raw_files.batches(path, COLUMNS, header=False, nulls=False):
        code = pc.index_in(batch.column("behaviour"), value_set=kinds)
        if code.null_count:
            wrong = batch.column("behaviour").filter(code.is_null())[0].as_py()
            raise InputError(f"{path} has the behaviour {wrong!r}; it must be one of {', '.join(BEHAVIOURS.values())}")
        batch = batch.set_column(3, "behaviour", code.cast(pa.int8()))
        day = local_days(batch.column("timestamp").to_numpy())
        inside = (day >= FIRST_DAY) & (day <= LAST_DAY)
        rows, outside = rows + len(day), outside + int((~inside).sum())
        batch, day = batch.filter(pa.array(inside)), day[inside]
        clicks = (batch.column("behaviour").to_numpy() == 0) & (day <= last_training_day)
        items.see(batch.column("item_id").to_numpy(), batch.column("category_id").to_numpy(), clicks)
        buckets.add(batch)
    if outside:
        warnings.warn(f"{outside:,} rows of {path} are outside 25 November to 3 December 2017 and were left out")
    if rows != ROWS:
        warnings.warn(f"{path} has {rows:,} rows; the owners count {ROWS:,}: is it whole?")


class _Behaviour:
    """All events of some users, sorted by time, and the clicks that become rows, with their histories."""

    def __init__(self, log: pa.Table, length: int) -> None:
        raw = {name: log[name].to_numpy() for name in COLUMNS}
        order = np.lexsort((raw["behaviour"], raw["item_id"], raw["user_id"], raw["timestamp"]))
        self._log = {name: column[order] for name, column in raw.items()}
        self._clicked = self._last_clicks()
        self._histories = {name: self._history(code, length) for code, name in enumerate(BEHAVIOURS)}

    def _last_clicks(self) -> np.ndarray:
        """Places in the log of each user's last click of each day, by time."""
        clicks = np.flatnonzero(self._log["behaviour"] == 0)
        user, day = self._log["user_id"][clicks], local_days(self._log["timestamp"][clicks])
        order = np.lexsort((day, user))  # stable: by time within a day
        last = np.ones(len(order), bool)
        last[:-1] = (np.diff(user[order]) != 0) | (np.diff(day[order]) != 0)
        return np.sort(clicks[order[last]])

    def _history(self, code: int, length: int) -> EarlierEvents:
        events = np.flatnonzero(self._log["behaviour"] == code)
        return EarlierEvents(self._log["user_id"], self._log["timestamp"], events, self._clicked, length)

    def write(
        self, days: DaySplits, items: _Items, negatives: int, generator: np.random.Generator, files: SplitFiles
    ) -> None:
        """Append clicked and drawn rows of each split, a few thousand at a time."""
        for split in SPLITS:
            chosen = np.flatnonzero(days.rows(split, self._log["timestamp"][self._clicked]))
            for start in range(0, len(chosen), CLICKS):
                rows = np.repeat(chosen[start : start + CLICKS], 1 + negatives)
                drawn = np.arange(len(rows)) % (1 + negatives) != 0
                files.add(split, self._table(rows, drawn, items, generator))

    def _table(self, rows: np.ndarray, drawn: np.ndarray, items: _Items, generator: np.random.Generator) -> pa.Table:
        """Rows (n,) of `_clicked`, and which of them get a drawn product (n,)."""
        place = self._clicked[rows]
        time, item, category = (self._log[name][place] for name in ("timestamp", "item_id", "category_id"))
        item[drawn], category[drawn] = items.draw(item[drawn], generator)
        columns: dict[str, Any] = {
            "label": (~drawn).astype(np.int8),
            "timestamp": time,
            "user_id": self._log["user_id"][place],
            "item_id": item,
            "category_id": category,
            "hour": (time + EAST_8) % DAY // 3600,
            "weekday": (local_days(time) + 3) % 7,  # 1 January 1970 was a Thursday; Monday = 0
        }
        for name, histories in self._histories.items():
            offsets, events = histories.take(rows)
            for field in ("item_id", "category_id", "timestamp"):
                values = pa.array(self._log[field][events])
                columns[f"{name}_{field}"] = pa.ListArray.from_arrays(pa.array(offsets), values)
        return pa.table(columns)


def _features(length: int) -> dict[str, Any]:
    return {
        "tables": {"item": {"min_count": 5}, "category": {}, "hour": {}, "weekday": {}},
        "ids": [
            {"name": "item_id", "table": "item"},
            {"name": "category_id", "table": "category"},
            "hour",
            "weekday",
        ],
        "sequences": [
            run_config.sequence(
                name,
                length,
                {"item": (f"{name}_item_id", "item"), "category": (f"{name}_category_id", "category")},
                timestamp=f"{name}_timestamp",
            )
            for name in BEHAVIOURS
        ],
        "labels": ["label"],
        "group": "user_id",
    }
