"""current.json: the version that answers, and the newest delta to it. In: a folder or URI; out: which state is the current one.

    {"format": 1, "version": ID, "sha256": ...}
    {"format": 2, "version": ID, "sha256": ..., "delta": {"id": ID, "sequence": N, "sha256": ...}}

The file is swapped whole. Format 2 is written where there is a delta alone: a release that knows none then says so.
"""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from interformer_rec.checkpoint.checked import small_file
from interformer_rec.errors import DamagedError, InputError
from interformer_rec.files import conform, json_object, own_name
from interformer_rec.serving.contents import Sha256
from interformer_rec.storage import Storage

CURRENT, VERSIONS, DELTAS = "current.json", "versions", "deltas"
WHOLE, WITH_DELTA = 1, 2  # formats
Sequence = Annotated[int, Field(ge=1, lt=1 << 31)]


class _Named(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class NewestDelta(_Named):
    """The delta that leads to the current state: its ID, how many there are since the version, and the SHA-256 of its manifest."""

    id: str
    sequence: Sequence
    sha256: Sha256


class Current(_Named):
    """The state in use: a version, and what has changed since. The SHA-256 is of its manifest, so that another folder of that name is not
    taken for it."""

    format: int
    version: str
    sha256: Sha256
    delta: NewestDelta | None = None

    @property
    def state(self) -> str:
        """What no other state is called."""
        return self.version if self.delta is None else f"{self.version}+{self.delta.id}"

    @property
    def base(self) -> Current:
        """The version without its deltas."""
        return Current(format=WHOLE, version=self.version, sha256=self.sha256)


def current(path: str) -> Current:
    """What current.json of a folder or URI says. Raises InputError where there is none, DamagedError where it is not one."""
    place = Storage.open(path)
    where = place.folder(CURRENT).location
    if place.size(CURRENT) is None:
        raise InputError(
            f"{path!r} holds no exported model: there is no {CURRENT}. Make one: interformer export RUN --out {path}"
        )
    found = conform(json_object(small_file(place, CURRENT, "nothing was exported"), where), Current, where)
    if found.format != (WHOLE if found.delta is None else WITH_DELTA):
        raise DamagedError(
            f"{where} has format {found.format}; this release reads format {WHOLE}, and {WITH_DELTA} of a delta"
        )
    for name in [found.version, *([found.delta.id] if found.delta is not None else [])]:
        own_name(name, where)
    return found


def point(place: Storage, now: Current) -> None:
    """Make it the current state. Raises OSError."""
    place.put(CURRENT, json.dumps(now.model_dump(exclude_none=True), indent=1).encode())
