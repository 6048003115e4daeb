"""Which state answers, a version with or without deltas. In: current.json as it changes; out: the state in use, replaced between batches
and only by a good one.

The next state is made beside the present one, its golden requests are scored, and only then it takes its place; the one before is kept for
a return. What cannot be loaded, scores wrongly or is far slower never answers a request.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from interformer_rec.data.fit import Fitted
from interformer_rec.errors import InputError
from interformer_rec.serving.artefact import Version
from interformer_rec.serving.encode.encoder import Encoder
from interformer_rec.serving.engine import log
from interformer_rec.serving.engine.meters import Meters
from interformer_rec.serving.published.pointer import Current, NewestDelta
from interformer_rec.serving.scorer import Scorer
from interformer_rec.serving.signature import Signature

AGAIN = 60.0  # seconds until a refused version is tried again
SLOWER = 5.0  # times the present version's golden requests, at most
FLOOR = 0.05  # seconds of golden requests that are never too slow


@dataclass(frozen=True)
class Served:
    """A version, with its deltas or some of them, that is open and has scored its golden requests as they were exported."""

    version: str
    name: str  # of the run
    scorer: Scorer
    encoder: Encoder
    fitted: Fitted
    opened: Version
    signature: Signature
    types: Mapping[str, pa.DataType]  # of the signature's inputs
    histories: tuple[tuple[str, ...], ...]  # inputs that are columns of one history
    example: dict[str, Any]  # a golden request: {"user": ..., "candidates": ...}
    card: str  # model card, Markdown
    golden_seconds: float  # CPU time of scoring the golden requests once more, after the first time
    loaded: float = field(default_factory=time.time)
    delta: NewestDelta | None = None  # the last one
    base: Served | None = None  # the version without deltas, where there are some

    @property
    def state(self) -> str:
        """What no other state is called."""
        return self.version if self.delta is None else f"{self.version}+{self.delta.id}"

    @property
    def newest(self) -> str | None:
        """ID of the last delta."""
        return None if self.delta is None else self.delta.id

    @property
    def deltas(self) -> int:
        """How many there are since the version."""
        return 0 if self.delta is None else self.delta.sequence


class Versions:
    """The state in use and the one before.

    `named`: the state that current.json names; `load`: opens one, from what a present one has where that helps, and raises InputError where
    it is damaged or its golden requests are not scored as exported; `between`: runs a function between two batches.
    """

    def __init__(
        self,
        named: Callable[[], Current],
        load: Callable[[Current, Served | None], Served],
        meters: Meters,
        first: Served | None = None,
    ) -> None:
        self._named, self._load, self._meters = named, load, meters
        self.previous: Served | None = None
        self.refused: dict[str, str] = {}  # state -> why it is not served
        self._again: dict[str, float] = {}  # state -> when it is tried once more: a store may have failed for a while
        self._busy = threading.Lock()
        self.current = first if first is not None else self._first(named())
        self._mark(1)

    def _first(self, now: Current) -> Served:
        """A version whose deltas are not whole answers without them: a full version will follow."""
        try:
            return self._load(now, None)
        except InputError as error:
            if now.delta is None:
                raise
            self.current = self._load(now.base, None)
            self._refuse(now.state, error)
            self._again = {now.state: time.monotonic() + AGAIN}
            return self.current

    def look(self, between: Callable[[Callable[[], None]], Any]) -> bool:
        """Serve the state that current.json names, unless it does already or was refused a moment ago. True: another one answers now.

        Runs in a thread of its own: loading takes seconds, and requests are answered meanwhile.
        """
        with self._busy:
            try:
                now = self._named()
            except Exception as error:
                self._refuse("current.json", error)
                return False
            self.refused.pop("current.json", None)
            if now.state == self.current.state or time.monotonic() < self._again.get(now.state, 0.0):
                return False
            try:
                found = self._next(now)
            except Exception as error:
                self._refuse(now.state, error)
                self._again = {now.state: time.monotonic() + AGAIN}
                return False
            between(lambda: self._use(found)).result()
            return True

    def _next(self, now: Current) -> Served:
        if self.previous is not None and self.previous.state == now.state:
            return self.previous
        found = self._load(now, self.current)
        most = max(FLOOR, SLOWER * self.current.golden_seconds)
        if found.golden_seconds > most:
            raise InputError(
                f"version {now.state} takes {found.golden_seconds:.3f} s of CPU time for its golden requests, the present one "
                f"{self.current.golden_seconds:.3f} s; at most {most:.3f} s are accepted. Export it again, or restart to serve it"
            )
        return found

    def _use(self, found: Served) -> None:
        self._mark(0)
        self.previous, self.current = self.current, found
        self._mark(1)
        self.refused = {}  # what could not be served has been passed over
        outcome = "served" if found.delta is None else "delta"
        self._meters.loads.labels(outcome).inc()
        log.line("version", version=found.version, delta=found.newest, deltas=found.deltas, before=self.previous.state)

    def _mark(self, present: int) -> None:
        self._meters.version.labels(self.current.version).set(present)
        self._meters.deltas.set(self.current.deltas)

    def _refuse(self, state: str, error: Exception) -> None:
        why = str(error) if isinstance(error, InputError) else repr(error)
        if self.refused.get(state) != why:
            self.refused[state] = why
            self._meters.loads.labels("refused").inc()
            log.line("version_refused", version=state, why=why, serving=self.current.state)
