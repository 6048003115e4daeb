"""Which version answers. In: current.json as it changes; out: the version in use, replaced between batches and only by a good one.

The next version is loaded beside the present one, its golden requests are scored, and only then it takes its place; the one before is kept
for a return. What cannot be loaded, scores wrongly or is far slower never answers a request.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from interformer_rec.errors import InputError
from interformer_rec.serving.encode.encoder import Encoder
from interformer_rec.serving.engine import log
from interformer_rec.serving.engine.meters import Meters
from interformer_rec.serving.scorer import Scorer
from interformer_rec.serving.signature import Signature

AGAIN = 60.0  # seconds until a refused version is tried again
SLOWER = 5.0  # times the present version's golden requests, at most
FLOOR = 0.05  # seconds of golden requests that are never too slow


@dataclass(frozen=True)
class Served:
    """A version that is open and has scored its golden requests as they were exported."""

    version: str
    name: str  # of the run
    scorer: Scorer
    encoder: Encoder
    signature: Signature
    types: Mapping[str, pa.DataType]  # of the signature's inputs
    histories: tuple[tuple[str, ...], ...]  # inputs that are columns of one history
    example: dict[str, Any]  # a golden request: {"user": ..., "candidates": ...}
    card: str  # model card, Markdown
    golden_seconds: float  # of scoring the golden requests once more, after the first time
    loaded: float = field(default_factory=time.time)


class Versions:
    """The version in use and the one before.

    `named`: the version that current.json names; `load`: opens one, and raises InputError where it is damaged or its golden requests
    are not scored as exported; `between`: runs a function between two batches.
    """

    def __init__(
        self, named: Callable[[], str], load: Callable[[str], Served], meters: Meters, first: Served | None = None
    ) -> None:
        self._named, self._load, self._meters = named, load, meters
        self.current = first if first is not None else load(named())
        self.previous: Served | None = None
        self.refused: dict[str, str] = {}  # version -> why it is not served
        self._again: dict[str, float] = {}  # version -> when it is tried once more: a store may have failed for a while
        self._busy = threading.Lock()
        meters.version.labels(self.current.version).set(1)

    def look(self, between: Callable[[Callable[[], None]], Any]) -> bool:
        """Serve the version that current.json names, unless it does already or was refused a moment ago. True: another one answers now.

        Runs in a thread of its own: loading takes seconds, and requests are answered meanwhile.
        """
        with self._busy:
            try:
                version = self._named()
            except Exception as error:
                self._refuse("current.json", error)
                return False
            self.refused.pop("current.json", None)
            if version == self.current.version or time.monotonic() < self._again.get(version, 0.0):
                return False
            try:
                found = self._next(version)
            except Exception as error:
                self._refuse(version, error)
                self._again = {version: time.monotonic() + AGAIN}
                return False
            between(lambda: self._use(found)).result()
            return True

    def _next(self, version: str) -> Served:
        if self.previous is not None and self.previous.version == version:
            return self.previous
        found = self._load(version)
        most = max(FLOOR, SLOWER * self.current.golden_seconds)
        if found.golden_seconds > most:
            raise InputError(
                f"version {version} takes {found.golden_seconds:.3f} s for its golden requests, the present one "
                f"{self.current.golden_seconds:.3f} s; at most {most:.3f} s are accepted. Export it again, or restart to serve it"
            )
        return found

    def _use(self, found: Served) -> None:
        self._meters.version.labels(self.current.version).set(0)
        self._meters.version.labels(found.version).set(1)
        self.previous, self.current = self.current, found
        self.refused.pop(found.version, None)
        self._meters.loads.labels("served").inc()
        log.line("version", version=found.version, before=self.previous.version)

    def _refuse(self, version: str, error: Exception) -> None:
        why = str(error) if isinstance(error, InputError) else repr(error)
        if self.refused.get(version) != why:
            self.refused[version] = why
            self._meters.loads.labels("refused").inc()
            log.line("version_refused", version=version, why=why, serving=self.current.version)
