"""Yambda (Yandex Music) -> Parquet files by day: train/day=NNN/ and holdout/day=NNN/.

Source: Ploshkin et al., "Yambda-5B", arXiv 2505.22238; the owner's multi_event.parquet, flat or sequential, of 50m, 500m or
5b events, and the tracks' artists and albums. A row is one listen. Label `listen_plus`: at least half of the track was
played, the paper's Listen+. Times are seconds from an unpublished beginning, in steps of 5; a day is 86,400 of them, so
`hour` is that of an unknown clock. MLPerf Training's recommendation benchmark trains on days 0 to 298 in this order and
evaluates on day 299, to an AUC of 0.75: `days=0:299`, whose last day is the holdout. Its model and histories (4,086 events)
are others; its figures are not comparable with those of another history length.

Three histories of the user's strictly earlier events, oldest first, whichever day they are of: tracks that were listened to
(`listen_plus`), listens that ended before half (`skip`), likes (`like`). Events of the row's own five seconds are in none.
Not read: dislikes, unlikes, undislikes, audio embeddings; of the row itself how much was played.

The log is divided into buckets of users on disk, so memory does not grow with it; a day has a file a bucket."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from interformer_rec.data.recipes import leakage, raw_files, run_config
from interformer_rec.data.recipes.by_id import ById
from interformer_rec.data.recipes.day_splits import DAY
from interformer_rec.data.recipes.earlier_events import EarlierEvents
from interformer_rec.data.recipes.raw_files import Source
from interformer_rec.data.recipes.split_files import ROW_GROUP
from interformer_rec.data.recipes.user_buckets import UserBuckets
from interformer_rec.data.recipes.yambda import events
from interformer_rec.data.recipes.yambda.events import KINDS, SCHEMA
from interformer_rec.errors import InputError

FILES = ("multi_event.parquet", "artist_item_mapping.parquet", "album_item_mapping.parquet")
SOURCE = Source(
    name="yambda",
    url="https://huggingface.co/datasets/yandex/yambda",
    licence="Apache 2.0, published for research; cite arXiv 2505.22238",
    files="one multi_event.parquet (flat/50m, sequential/500m, ...), artist_item_mapping.parquet, album_item_mapping.parquet",
)
OPTIONS: dict[str, int | str] = {
    "days": "270:299",  # of the rows; the last one is the holdout
    "history": 50,  # events kept of each kind
}
EVENT_BYTES = 48  # of an event in a bucket, with its place in the histories


def write(folder: Path, out: Path, raw: Path | None, options: dict[str, Any]) -> dict[str, int]:
    """Write train/ and holdout/ and config.yaml into `folder`, check them for leakage; rows of each file.

    Raises InputError when a file is missing or wrong, an option cannot be, or train or holdout has no row.
    """
    first, last = _days(options["days"])
    if options["history"] < 1:
        raise InputError(f"option history is {options['history']}; the least is 1 event")
    log, *mappings = (_one(raw, name) for name in FILES)
    tracks = [
        (name, ById(events.first_of_items(path, name), "item_id"))
        for name, path in zip(("artist_id", "album_id"), mappings, strict=True)
    ]
    rows: dict[str, int] = {}
    with UserBuckets(folder, events.events_of(log) * EVENT_BYTES, SCHEMA) as buckets:
        for batch in events.log(log):
            buckets.add(batch)
        for number, bucket in enumerate(buckets):
            listens = _Listens(bucket, tracks, options["history"])
            for day in range(first, last + 1):
                name = f"{'holdout' if day == last else 'train'}/day={day:03}/part-{number:03}.parquet"
                if count := listens.write(folder / name, day):
                    rows[name] = count
    for split in ("train", "holdout"):
        if not any(name.startswith(split) for name in rows):
            raise InputError(f"no row for {split}: is the option days={options['days']} one of the file's days?")
    names = sorted(rows, key=lambda name: name.split("/")[1:])
    of_day: dict[str, list[Path]] = {}
    for name in names:
        of_day.setdefault(name.split("/")[1], []).append(folder / name)
    leakage.check(list(of_day.values()), "timestamp", [f"{name}_timestamp" for name in KINDS])
    splits = {"train": f"{out}/train", "valid": f"{out}/holdout"}
    run_config.write(folder, out, SOURCE.name, features(options["history"]), splits=splits)
    return {name: rows[name] for name in names}


def _days(option: Any) -> tuple[int, int]:
    """First and last day. Raises InputError."""
    first, colon, last = str(option).partition(":")
    if not (colon and first.isdecimal() and last.isdecimal() and int(first) < int(last) < 1000):
        raise InputError(f"option days is {option!r}; write first and last day as 270:299: the last one is the holdout")
    return int(first), int(last)


def _one(raw: Path | None, name: str) -> Path:
    found = raw_files.find(raw, name, SOURCE)
    if len(found) > 1:
        raise InputError(
            f"{raw} has {len(found)} files {name}: {found[0]}, {found[1]}, ...; name the folder of one size and form, and "
            "put the mappings of artists and albums there too"
        )
    return found[0]


class _Listens:
    """All events of some users, sorted by time, and the histories of their listens."""

    def __init__(self, log: pa.Table, tracks: list[tuple[str, ById]], length: int) -> None:
        raw = {name: log[name].to_numpy() for name in ("user_id", "item_id", "timestamp", "kind", "is_organic")}
        order = np.lexsort((raw["kind"], raw["item_id"], raw["user_id"], raw["timestamp"]))
        self._log = {name: column[order] for name, column in raw.items()}
        self._seconds = log["track_length_seconds"].take(pa.array(order))
        self._tracks = tracks
        self._rows = np.flatnonzero(self._log["kind"] <= 1)
        self._days = self._log["timestamp"][self._rows] // DAY  # ascending
        self._histories = {
            name: EarlierEvents(
                self._log["user_id"],
                self._log["timestamp"],
                np.flatnonzero(self._log["kind"] == code),
                self._rows,
                length,
            )
            for code, name in enumerate(KINDS)
        }

    def write(self, path: Path, day: int) -> int:
        """The rows of one day as a file, in the order of their time; how many. No file if there is none."""
        start, stop = np.searchsorted(self._days, [day, day + 1]).tolist()
        if start == stop:
            return 0
        path.parent.mkdir(parents=True, exist_ok=True)
        tables = (self._table(np.arange(at, min(at + ROW_GROUP, stop))) for at in range(start, stop, ROW_GROUP))
        first = next(tables)
        with pq.ParquetWriter(path, first.schema, compression="zstd") as writer:
            writer.write_table(first)
            for table in tables:
                writer.write_table(table)
        return stop - start

    def _table(self, chosen: np.ndarray) -> pa.Table:
        at = self._rows[chosen]
        log = {name: column[at] for name, column in self._log.items()}
        columns: dict[str, Any] = {"listen_plus": (log["kind"] == 0).astype(np.int8), "timestamp": log["timestamp"]}
        columns["day"], columns["hour"] = log["timestamp"] // DAY, log["timestamp"] % DAY // 3600
        columns |= {name: log[name] for name in ("user_id", "item_id", "is_organic")}
        columns |= {name: table.stored(name, log["item_id"]) for name, table in self._tracks}
        columns["track_length_seconds"] = self._seconds.take(pa.array(at)).combine_chunks()
        for name, histories in self._histories.items():
            offsets, places = histories.take(chosen)
            items = self._log["item_id"][places]
            fields = {
                "item_id": pa.array(items),
                **{field: table.stored(field, items) for field, table in self._tracks},
                "timestamp": pa.array(self._log["timestamp"][places]),
            }
            columns |= {
                f"{name}_{field}": pa.ListArray.from_arrays(pa.array(offsets), values)
                for field, values in fields.items()
            }
        return pa.table(columns)


def features(length: int) -> dict[str, Any]:
    """The `features:` part of a run config; `length`: newest events of each history."""
    shared = {"item_id": "item", "artist_id": "artist", "album_id": "album"}
    return {
        "tables": {
            "item": {"min_count": 2},
            "artist": {"min_count": 2},
            "album": {"min_count": 2},
            **{name: {} for name in ("user_id", "is_organic", "hour")},
        },
        "ids": [*({"name": name, "table": table} for name, table in shared.items()), "user_id", "is_organic", "hour"],
        "dense": [{"name": "track_length_seconds", "fill": 200.0, "log1p": True, "standardise": True}],
        "sequences": [
            run_config.sequence(
                name,
                length,
                {table: (f"{name}_{field}", table) for field, table in shared.items()},
                timestamp=f"{name}_timestamp",
            )
            for name in KINDS
        ],
        "candidate": [*shared, "track_length_seconds"],
        "labels": ["listen_plus"],
        "group": "user_id",
    }
