"""The data sets, and the windows that they are cut into. In: a data set's Parquet files; out: a folder a window, dt=NAME/part-0.parquet."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from interformer_rec.errors import InputError

ROW_GROUP = 4_096
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Timeline:
    """A data set in time order."""

    config: str  # of the repository: features, model, optimizer
    folder: str  # where its recipe writes it
    files: str  # glob below the folder
    time: str  # column that windows are cut by
    unit: Literal["s", "ms", "number"]  # of that column; number: each value is a window
    width: Literal["M", "D", "number"]  # a month, a day, a value
    tables: Mapping[str, int]  # large tables whose ids come and go, or are hashed -> their rows
    others: int  # rows of each other table with a vocabulary: they grow too
    fit_on: int = 1  # first windows that other vocabularies are fitted on
    every: int = 1  # a model is trained from scratch for each window (1), or for every N-th of the last third
    share: float = 1.0  # of the users, all rows of each
    east: int = 0  # what the data set's calendar is ahead of UTC, in `unit`
    # keys of the config; windows do not go with some of its values
    overrides: Mapping[str, Any] = field(default_factory=dict)


ALONE = {"data.train": None, "data.valid": None, "data.test": None, "training.epochs": 1, "training.patience": None}

SETS = {
    "ml_100k": Timeline(
        config="configs/ml_100k.yaml",
        folder="data/ml-100k",
        files="*.parquet",
        time="timestamp",
        unit="s",
        width="M",
        tables={"item": 1_700},
        others=128,
        overrides={**ALONE, "model.ensemble_members": 1},
    ),
    "completejourney": Timeline(
        config="configs/completejourney.yaml",
        folder="data/completejourney",
        files="week=*/*.parquet",
        time="week",
        unit="number",
        width="number",
        tables={"product": 20_000, "household_id": 2_500},
        others=4_096,
        fit_on=2,
        every=6,
        share=0.1,
        overrides={**ALONE, "data.batch_size": 256},
    ),
    "kuairand_pure": Timeline(
        config="configs/kuairand_pure.yaml",
        folder="data/kuairand_pure",
        files="*.parquet",
        time="time_ms",
        unit="ms",
        width="D",
        tables={"video": 8_000, "author": 7_000, "user_id": 28_000, "music_id": 6_000},
        others=2_048,
        fit_on=2,
        every=2,
        east=8 * 3_600_000,
        overrides={**ALONE, "model.ensemble_members": 1, "data.history_pretraining": None},
    ),
    "synthetic_days": Timeline(
        config="",
        folder="data/days",
        files="windows/*/*.parquet",
        time="day",
        unit="number",
        width="number",
        tables={"item_id": 300, "user_id": 500},
        others=16,
    ),
}


def cut(timeline: Timeline, folder: Path, group: str, out: Path, share: float, seed: int) -> list[Path]:
    """Write the windows below `out`, rows in order of time; returns their folders, in order.

    Of the values of `group`, a share is drawn with the seed; all rows of each are kept. Raises InputError without rows.
    """
    files = sorted(folder.glob(timeline.files))
    if not files:
        raise InputError(
            f"{str(folder)!r} has no {timeline.files}: write it with `interformer data`, or name --data-dir"
        )
    kept = None
    if share < 1:
        users = pc.unique(pa.chunked_array([pq.read_table(file, columns=[group])[group] for file in files]))
        users = users.drop_null().sort()
        drawn = np.random.default_rng(seed).permutation(len(users))[: max(1, round(share * len(users)))]
        kept = users.take(pa.array(drawn))
    table = pa.concat_tables([_read(file, group, kept) for file in files], promote_options="permissive")
    names = window_names(table[timeline.time].to_numpy(), timeline)
    places = []
    for name in np.unique(names):
        place = out / f"dt={name}"
        place.mkdir(parents=True)
        rows = table.filter(pa.array(names == name)).sort_by(timeline.time)
        pq.write_table(rows, place / "part-0.parquet", row_group_size=ROW_GROUP, compression="zstd")
        places.append(place)
    return places


def window_names(times: np.ndarray, timeline: Timeline) -> np.ndarray:
    """The name of the window of each row; names are in order of time."""
    if timeline.width == "number":
        return np.char.zfill(times.astype(np.int64).astype(str), 4)
    return (
        (times.astype(np.int64) + timeline.east)
        .astype(f"datetime64[{timeline.unit}]")
        .astype(f"datetime64[{timeline.width}]")
        .astype(str)
    )


def link(places: Iterable[Path], folder: Path) -> Path:
    """A folder with links to these windows, beside those that it has."""
    folder.mkdir(parents=True, exist_ok=True)
    for place in places:
        (folder / place.name).mkdir()
        (folder / place.name / "part-0.parquet").symlink_to((place / "part-0.parquet").resolve())
    return folder


def _read(file: Path, group: str, kept: pa.Array | None) -> pa.Table:
    """Its rows of the users that are kept. The made-up days get a column `day` from the folder that they lie in."""
    table = pq.ParquetFile(file).read()
    if file.parent.name.startswith("dt="):
        day = int(np.datetime64(file.parent.name.removeprefix("dt="), "D").astype(np.int64))
        table = table.append_column("day", pa.array(np.full(len(table), day)))
    return table if kept is None else table.filter(pc.is_in(table[group], value_set=kept))
