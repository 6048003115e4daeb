"""KuaiRand's official log files (Pure or 27K) -> train, valid and test Parquet files, and test_random.parquet.

Source: Gao et al., CIKM 2022. One row is one exposure; columns are those of configs/kuairand_pure.yaml, and the events'
times. Label `is_click`; `is_like` and `long_view` are feedback on the row too, never inputs. Three histories of the user's
strictly earlier standard exposures, whichever split they are in: all (`watch`), those with long_view = 1 and those with
is_like = 1, oldest first. Splits are local days (UTC+8) of time_ms; the days before train fill histories only. Rows of
randomly exposed videos in the test days go to test_random.parquet, and are in no history.

Left out: whatever else happens after the exposure (play time, comments, follows, ...), the month's item statistics, and
`date` and `hourmin`, which lie up to an hour after time_ms by an amount that goes with the label. Known limit: feedback on
the exposure just before may in truth have come a little later than this row.

The logs are divided into buckets of users on disk, so memory does not grow with them; the video table is held in memory
(27K: 32 million videos, an estimated 6 GB). Rows are sorted by time within a bucket; Pure is one or two buckets."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from interformer_rec.data.recipes import leakage, raw_files, run_config
from interformer_rec.data.recipes.by_id import ById
from interformer_rec.data.recipes.day_splits import DAY, EAST_8, SPLITS, DaySplits, local_days
from interformer_rec.data.recipes.earlier_events import EarlierEvents
from interformer_rec.data.recipes.kuairand.tables import USER_IDS, USER_NUMBERS, USER_TEXTS, users, videos
from interformer_rec.data.recipes.raw_files import Source
from interformer_rec.data.recipes.split_files import ROW_GROUP, SplitFiles
from interformer_rec.data.recipes.user_buckets import UserBuckets
from interformer_rec.errors import InputError

SEQUENCES = {"watch": None, "long_watch": "long_view", "like": "is_like"}  # name -> label an event must have
LABELS = ("is_click", "is_like", "long_view")
LOG = {name: pa.int64() for name in ("user_id", "video_id", "time_ms", *LABELS, "is_rand", "tab")}
# Standard exposures that the owners count; every file there is read, so another number means a missing part.
ROWS = {"pure": 1_436_609, "27k": 322_278_385}
OPTIONS: dict[str, dict[str, int | str]] = {
    "pure": {
        "train": "2022-04-15:2022-05-04",
        "valid": "2022-05-05:2022-05-06",
        "test": "2022-05-07:2022-05-08",
        "history": 50,
    },
    "27k": {
        "train": "2022-05-02:2022-05-06",
        "valid": "2022-05-07:2022-05-07",
        "test": "2022-05-08:2022-05-08",
        "history": 50,
    },
}


def source(tag: str) -> Source:
    """Where KuaiRand-Pure (`pure`) or KuaiRand-27K (`27k`) comes from."""
    return Source(
        name=f"kuairand_{tag}",
        url="https://zenodo.org/records/10439422",
        licence="CC BY-SA 4.0; cite Gao et al., CIKM 2022, doi 10.1145/3511808.3557624",
        files=f"log_standard_4_08_to_4_21_{tag}*.csv, log_standard_4_22_to_5_08_{tag}*.csv, user_features_{tag}.csv, "
        f"video_features_basic_{tag}.csv and, if wanted, log_random_4_22_to_5_08_{tag}.csv",
    )


def write(tag: str, folder: Path, out: Path, raw: Path | None, options: dict[str, Any]) -> dict[str, int]:
    """Write the splits and config.yaml into `folder`, check them for leakage; rows of each.

    Raises InputError when a file is missing or wrong, an option cannot be, or a split has no row.
    """
    days, length, origin = DaySplits.of(options), options["history"], source(tag)
    if length < 1:
        raise InputError(f"option history is {length}; the least is 1 event")
    logs = [
        path
        for part in ("standard_4_08_to_4_21", "standard_4_22_to_5_08")
        for path in raw_files.find(raw, f"log_{part}_{tag}*.csv", origin)
    ]
    assert raw is not None
    logs += sorted(raw.rglob(f"log_random_4_22_to_5_08_{tag}.csv"))
    persons = users(raw_files.find(raw, f"user_features_{tag}.csv", origin)[0])
    films = videos(raw_files.find(raw, f"video_features_basic_{tag}.csv", origin)[0])
    size = sum(path.stat().st_size for path in logs)
    with UserBuckets(folder, size, pa.schema(list(LOG.items()))) as buckets:
        _distribute(logs, buckets, persons, films, ROWS[tag])
        with SplitFiles(folder) as files:
            for bucket in buckets:
                _Exposures(bucket, persons, films, length).write(days, files)
    rows = files.counts("are the options train, valid and test days of the logs (8 April to 8 May 2022)?")
    times = [f"{name}_time_ms" for name in SEQUENCES]
    leakage.check([folder / f"{split}.parquet" for split in SPLITS], "time_ms", times)
    if "test_random" in files.rows:
        leakage.check([folder / name for name in ("valid.parquet", "test_random.parquet")], "time_ms", times)
    run_config.write(folder, out, origin.name, features(length, rare=2 if tag == "pure" else 10))
    return rows


def _distribute(logs: list[Path], buckets: UserBuckets, persons: ById, films: ById, expected: int) -> None:
    """Put every log row whose user and video are in the tables into its bucket."""
    standard = unknown = 0
    for path in logs:
        for batch in raw_files.batches(path, LOG, nulls=False):
            standard += int((batch.column("is_rand").to_numpy() == 0).sum())
            known = (
                persons.find(batch.column("user_id").to_numpy())[1] & films.find(batch.column("video_id").to_numpy())[1]
            )
            unknown += len(known) - int(known.sum())
            buckets.add(batch.filter(pa.array(known)))
    if unknown:
        warnings.warn(f"{unknown:,} log rows were left out: their user or video is not in the feature tables")
    if standard != expected:
        warnings.warn(f"{standard:,} standard exposures were read; the owners count {expected:,}: is a file missing?")


class _Exposures:
    """All exposures of some users, sorted by time, with their histories."""

    def __init__(self, log: pa.Table, persons: ById, films: ById, length: int) -> None:
        raw = {name: log[name].to_numpy() for name in LOG}
        order = np.lexsort((raw["is_rand"], raw["video_id"], raw["user_id"], raw["time_ms"]))
        same = np.ones(len(order), bool)  # as the row before: a repeated exposure
        for name in ("time_ms", "user_id", "video_id"):
            ordered = raw[name][order]
            same &= np.r_[False, ordered[1:] == ordered[:-1]][: len(same)]
        self._log = {name: column[order[~same]] for name, column in raw.items()}
        self._persons, self._films = persons, films
        self._video_rows = films.find(self._log["video_id"])[0]
        self._histories = {name: self._history(label, length) for name, label in SEQUENCES.items()}

    def _history(self, label: str | None, length: int) -> EarlierEvents:
        """Of every exposure; standard ones alone are events, and with `label` only where it is 1."""
        counts = self._log["is_rand"] == 0
        if label:
            counts &= self._log[label] == 1
        every = np.arange(len(counts))
        return EarlierEvents(self._log["user_id"], self._log["time_ms"], np.flatnonzero(counts), every, length)

    def write(self, days: DaySplits, files: SplitFiles) -> None:
        """Append the rows of each split, a row group at a time."""
        seconds, random = self._log["time_ms"] // 1000, self._log["is_rand"] != 0
        chosen = {split: days.rows(split, seconds) & ~random for split in SPLITS}
        chosen["test_random"] = days.rows("test", seconds) & random
        for split, which in chosen.items():
            rows = np.flatnonzero(which)
            for start in range(0, len(rows), ROW_GROUP):
                files.add(split, self._table(rows[start : start + ROW_GROUP]))

    def _table(self, rows: np.ndarray) -> pa.Table:
        log = {name: column[rows] for name, column in self._log.items()}
        columns: dict[str, Any] = {name: log[name].astype(np.int8) for name in LABELS}
        columns |= {name: log[name] for name in ("time_ms", "user_id", "video_id", "tab")}
        seconds = log["time_ms"] // 1000
        columns["hour"] = (seconds + EAST_8) % DAY // 3600
        columns["weekday"] = (local_days(seconds) + 3) % 7  # 1 January 1970 was a Thursday; Monday = 0
        person = self._persons.columns(self._persons.find(log["user_id"])[0])
        film = self._films.columns(self._video_rows[rows])
        uploaded = film.pop("upload_day").to_numpy(zero_copy_only=False)  # NaN: not known
        columns["days_since_upload"] = pa.array(
            (log["time_ms"] / 1000 + EAST_8) / DAY - uploaded, pa.float32(), from_pandas=True
        )
        del person["user_id"], film["video_id"], film["first_tag"]
        columns |= person | film
        for name, histories in self._histories.items():
            offsets, events = histories.take(rows)
            shown = self._video_rows[events]
            fields = {
                "video_id": pa.array(self._log["video_id"][events]),
                "author_id": self._films.column("author_id", shown),
                "tag": self._films.column("first_tag", shown),
                "time_ms": pa.array(self._log["time_ms"][events]),
            }
            for field, values in fields.items():
                columns[f"{name}_{field}"] = pa.ListArray.from_arrays(pa.array(offsets), values)
        return pa.table(columns)


LIKES = 20  # events of the history of likes, which is short


def features(length: int, rare: int) -> dict[str, Any]:
    """`length`: newest events kept; ids of users, videos, authors and music seen less than `rare` times share a row."""
    person = [f"user_{name.removeprefix('user_')}" for name in (*USER_TEXTS, *USER_IDS)]
    single = ["tab", "hour", "weekday", "user_id", *person, "video_type", "upload_type", "music_id", "music_type"]
    # Pure's candidates are few videos shown often; 27K's histories hold millions that are seen once.
    events = {"min_count": rare} if rare > 2 else {}
    often = {name: {"min_count": rare} for name in ("user_id", "user_onehot_feat3", "music_id")}
    dense = ["days_since_upload", *(f"user_{name}" for name in USER_NUMBERS), "video_duration"]
    return {
        "tables": {"video": events, "author": events, "tag": {}, **{name: often.get(name, {}) for name in single}},
        "ids": [
            *single,
            {"name": "video_id", "table": "video"},
            {"name": "author_id", "table": "author"},
        ],
        "bags": [{"name": "tags", "table": "tag"}],
        "dense": [
            *({"name": name, "fill": 0.0, "log1p": True, "standardise": True} for name in dense),
            *({"name": name, "fill": 0.0, "standardise": True} for name in ("server_width", "server_height")),
        ],
        "sequences": [
            run_config.sequence(
                name,
                kept,
                {
                    "video": (f"{name}_video_id", "video"),
                    "author": (f"{name}_author_id", "author"),
                    "tag": (f"{name}_tag", "tag"),
                },
                timestamp=f"{name}_time_ms",
            )
            for name, kept in (("watch", length), ("long_watch", length), ("like", min(length, LIKES)))
        ],
        "labels": ["is_click"],
        "group": "user_id",
    }
