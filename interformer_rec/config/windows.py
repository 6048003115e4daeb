"""Options of windows: rows in time order, a part of time after the other; and of publishing. In: those parts of a run's YAML. No torch.

What a window is, and what is done with each, is said in training/windows/: evaluate on it, then train on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field, model_validator

from interformer_rec.config.strict import Count, Location, Name, Seconds, Strict


class WindowsConfig(Strict):
    """Training in time order, instead of data.train: each window is evaluated on, and then trained on once (training.epochs times)."""

    path: Location = Field(description="the folder that partitions are written to, or a file, glob or URI")
    by: Literal["folder", "file", "time"] = Field(
        "folder",
        description="what a window is. folder: a folder of Parquet files, such as dt=2026-11-28/hr=07; file: one file; time: the rows of a "
        "stretch of time, `width` long, of one data set. Windows are in the order of their names, numbers in them as numbers",
    )
    levels: Count | None = Field(
        None, description="by folder: levels of folders that name a window, files below belong to it; null: all levels"
    )
    column: Name | None = Field(
        None, description="by time: the column with the time of a row, a timestamp, date or integer"
    )
    width: Seconds | None = Field(
        None, description="by time: how long a window is, in seconds; of an integer column in its unit"
    )
    fit_on: Count = Field(
        1,
        description="so many first windows give the vocabularies, means and deviations, before any row is trained on; the averages over "
        "all windows leave them out",
    )
    marker: Name | None = Field(
        None, description="by folder: a window is whole once a file of this name lies in its folder, such as _SUCCESS"
    )
    min_age: Seconds | None = Field(
        None, description="a window is whole once its newest file was written so many seconds ago"
    )
    changed: Literal["error", "warn"] = Field(
        "error",
        description="when the files of a window changed after it was trained on; warn: its rows are not read again",
    )
    late: Literal["error", "skip"] = Field(
        "error", description="when a window appears that comes before one that was trained on; skip: it is never read"
    )
    gap: Literal["error", "warn"] = Field(
        "warn", description="when a window is missing between two, by the dates, hours or numbers in their names"
    )
    empty: Literal["error", "skip"] = Field("skip", description="when a window has no row")

    @model_validator(mode="after")
    def _check(self) -> WindowsConfig:
        if (self.by == "time") != (self.column is not None) or (self.by == "time") != (self.width is not None):
            raise ValueError(
                f"windows by {self.by}: "
                + ("name its column and width" if self.by == "time" else "leave out column and width")
            )
        for key, value in (("levels", self.levels), ("marker", self.marker)):
            if value is not None and self.by != "folder":
                raise ValueError(f"{key} is of windows by folder: leave it out, or set by: folder")
        if self.marker is not None and "/" in self.marker:
            raise ValueError(
                f"marker is the name of a file in a window's folder, such as _SUCCESS, not {self.marker!r}"
            )
        if self.by == "time" and self.min_age is not None:
            raise ValueError(
                "min_age is of windows by folder or file: by time the last window is whole once a later one has a row"
            )
        return self


class PublishConfig(Strict):
    """What `interformer export --delta` publishes of this run, beside training (training/windows/publishing.py)."""

    to: Location = Field(description="folder or URI of the exported model, as of `interformer export --out`")
    every: Literal["window"] | Count = Field(
        "window",
        description="window: the checkpoint after each window of data.windows; a number: each checkpoint whose step it divides, so "
        "training.checkpoint.every_steps must divide it",
    )
    full_every: Count = Field(24, description="of N publications one is a whole version, the others are deltas")
    keep: Count = Field(
        2,
        description="versions that stay, the newest ones, each with its deltas; readers must have left the others by then",
    )
    tables: Literal["fp32", "fp16", "int8"] | None = Field(
        None, description="as export --tables; null: as the version in `to` has them, or fp32"
    )
    runtime: Literal["auto", "aoti", "onnx", "eager"] | None = Field(
        None, description="as export --runtime; null: as the version in `to` has them, or auto"
    )
    data: Location | None = Field(
        None,
        description="rows with labels on which what is published is compared with predict's scores; null: rows of the window, or of "
        "data.valid, data.test or data.train",
    )


_EACH = "each window is evaluated on before it is trained on"
_SCORES = "scores of different windows cannot be compared"
BESIDE = {
    "data.train": "data.windows takes its place",
    "data.valid": f"{_EACH}; data.test may name rows that are never trained on",
    "training.eval_every_steps": _EACH,
    "training.patience": f"{_SCORES}, so nothing says that training should stop",
    "optimizer.schedule.kind: plateau": f"{_SCORES}, so nothing says that the rate should fall",
    "optimizer.schedule.kind: cosine": "nobody knows how many windows will come, so where it ends: set training.max_steps too",
    "data.history_pretraining": "it would train on events of windows to come",
    "model.ensemble_members": "members take turns by epochs over the same rows, and each window has other rows",
}


def refuse_beside_windows(given: Iterable[str]) -> None:
    """Raises ValueError for the first key that a config must not have beside data.windows, and says why."""
    for key in given:
        raise ValueError(f"{key} does not go with data.windows: {BESIDE[key]}. Leave it out")
