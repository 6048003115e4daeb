"""What an evaluation adds to a checkpoint that was saved before it. In: the metric's value and the state that it changed; out: a file.

The evaluation itself may fail, on a bad row, say: so the checkpoint is whole first, and this file comes after it, whole or not at all. A
checkpoint without one was not evaluated yet: `--resume` evaluates it again. The value is all there is to say which checkpoint is
the best (retention.py), so that this, the weights and the metrics never disagree.
"""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Field

from interformer_rec.checkpoint.checked import small_file
from interformer_rec.checkpoint.manifest import Manifest
from interformer_rec.errors import DamagedError
from interformer_rec.files import StrictFile, conform, finite, json_object

FILE = "evaluated.json"


@dataclass(frozen=True)
class Score:
    """The value of the monitored metric; NaN where it is not defined."""

    monitor: str  # for example click/auc
    higher: bool  # is better
    value: float
    best: float | None = None  # of this and all evaluations before it

    @property
    def key(self) -> float | None:
        """The higher the better; None for one that is not defined."""
        return None if math.isnan(self.value) else self.value if self.higher else -self.value

    def is_best(self, value: float) -> bool:
        """Whether `value` is as good as the best of this and all evaluations before it."""
        return self.best is not None and (value >= self.best if self.higher else value <= self.best)


@dataclass(frozen=True)
class Evaluated:
    """`state`: keys of state.json with their new values."""

    score: Score | None  # None: one that no other checkpoint's can be compared with, as of windows
    state: dict[str, Any]

    def write(self, manifest: Manifest) -> None:
        """Beside the files of the checkpoint. Raises OSError."""
        score = None if self.score is None else asdict(self.score)
        content = {"manifest": manifest.sha256, "score": score, "state": self.state}
        text = json.dumps(finite(content), allow_nan=False)
        manifest.storage.put(FILE, json.dumps({"crc32": zlib.crc32(text.encode()), "content": text}).encode())

    @classmethod
    def read(cls, manifest: Manifest) -> Evaluated | None:
        """None if there is none. Raises DamagedError, also for one of another checkpoint."""
        storage = manifest.storage
        where = storage.folder(FILE).location
        if storage.size(FILE) is None:
            return None
        storage.refuse_link_out(FILE, storage.location)
        outer = conform(json_object(small_file(storage, FILE, "it was there before"), where), _Outer, where)
        raw = outer.content.encode("utf-8", "surrogatepass")
        if outer.crc32 != zlib.crc32(raw):
            raise DamagedError(f"{where} is not what was written: its checksum differs")
        inner = conform(json_object(raw, where), _Inner, where)
        if inner.manifest != manifest.sha256:
            raise DamagedError(f"{where} belongs to another checkpoint: the SHA-256 of its manifest differs")
        if inner.score is None:
            return cls(None, inner.state)
        value = inner.score.value if inner.score.value is not None else math.nan
        return cls(Score(inner.score.monitor, inner.score.higher, value, inner.score.best), inner.state)


class _Outer(StrictFile):
    crc32: int
    content: str


class _Score(StrictFile):
    monitor: str
    higher: bool
    value: float | None
    best: float | None


class _Inner(StrictFile):
    manifest: Annotated[str, Field(max_length=64)]
    score: _Score | None
    state: dict[str, Any]
