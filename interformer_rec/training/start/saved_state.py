"""What the trainer keeps in a checkpoint's state.json, as types. In: the JSON; out: the same, or DamagedError that names the key.

The bytes have their checksum, so this is for a state that somebody else wrote: nothing of it is used before it fits.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from interformer_rec.checkpoint.read import Count
from interformer_rec.files import conform


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")  # checkpoint/read.py has keys of its own


_Line = Annotated[list[float], Field(min_length=2, max_length=2)]


class _Best(_Strict):
    value: float | None
    stalled: Count


class _Schedule(_Strict):
    plateau: Annotated[float, Field(ge=0, le=1)]
    best: _Best


class _Interval(_Strict):
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


class _Seen(_Strict):
    name: str
    outcome: Literal["trained", "empty", "late"]
    sizes: Count
    modified: float | None
    footers: Count
    rows: Count


class _Present(_Strict):
    seen: _Seen
    begin_epoch: Count
    end_epoch: Count
    evaluated: bool


class _Totals(_Strict):
    windows: Count
    sums: dict[str, Annotated[list[float], Field(min_length=5, max_length=5)]]
    means: dict[str, dict[str, Annotated[list[float], Field(min_length=2, max_length=2)]]]


class _Windows(_Strict):
    left: list[_Seen]
    present: _Present | None
    totals: _Totals


class _State(_Strict):
    epoch: Count
    step: Count
    cursor: dict[str, Any] | None
    evaluate: bool
    monitor: str
    schedule: _Schedule
    progress: _Best
    evaluation: _Evaluation | None
    recalibration: dict[str, _Line] | None = None
    skipped: dict[str, _Skipped]
    interval: _Interval
    lengths: _Lengths
    windows: _Windows | None = None


def checked_state(state: dict[str, Any], source: str) -> dict[str, Any]:
    """The keys that Hooks.restore reads. Raises DamagedError that names `source` and the key."""
    return conform(state, _State, source).model_dump()
