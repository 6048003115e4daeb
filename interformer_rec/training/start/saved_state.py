"""What the trainer keeps in a checkpoint's state.json, as types. In: the JSON; out: the same, or DamagedError that names the key.

The bytes have their checksum, so this is for a state that somebody else wrote: nothing of it is used before it fits.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from interformer_rec.checkpoint.read import Count
from interformer_rec.files import conform


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")  # checkpoint/read.py has keys of its own


class _Best(_Strict):
    value: float | None
    stalled: Count


class _Schedule(_Strict):
    plateau: Annotated[float, Field(ge=0, le=1)]
    best: _Best


class _Window(_Strict):
    steps: Count
    seconds: Annotated[float, Field(ge=0)]
    ranks: Annotated[list[list[float | None]], Field(min_length=1)]


class _Skipped(_Strict):
    rows: Count
    example: str


class _Lengths(_Strict):
    rows: dict[str, list[Count]]
    events: dict[str, list[Count]]


class _Evaluation(_Strict):
    model_config = ConfigDict(strict=True, extra="allow")

    calibration_bins: dict[str, list[dict[str, float | None]]]
    __pydantic_extra__: dict[str, float | None]


class _State(_Strict):
    epoch: Count
    step: Count
    cursor: dict[str, Any] | None
    evaluate: bool
    monitor: str
    schedule: _Schedule
    progress: _Best
    evaluation: _Evaluation | None
    skipped: dict[str, _Skipped]
    window: _Window
    lengths: _Lengths


def checked_state(state: dict[str, Any], source: str) -> dict[str, Any]:
    """The keys that Hooks.restore reads. Raises DamagedError that names `source` and the key."""
    return conform(state, _State, source).model_dump()
