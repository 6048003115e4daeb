"""When to stop: signals asked for, agreed on by all ranks; and progress of the monitored metric. Out: small decisions."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
HIGHER_IS_BETTER = {"auc": True, "gauc": True, "logloss": False, "ne": False}


class StopRequest:
    """Remembers the first SIGINT or SIGTERM; the trainer acts at its next agreement between ranks."""

    def __init__(self) -> None:
        self.signal = 0

    @contextmanager
    def listen(self) -> Iterator[StopRequest]:
        """Take over both signals inside the block; a second SIGINT interrupts at once."""
        previous = {number: signal.signal(number, self._notice) for number in STOP_SIGNALS}
        try:
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _notice(self, number: int, frame: FrameType | None) -> None:
        if self.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = self.signal or number


class Progress:
    """Best value of the monitored metric and how long it has stalled."""

    def __init__(self, monitor: str, patience: int | None) -> None:
        self.higher = HIGHER_IS_BETTER[monitor]
        self.patience = patience
        self.best = math.nan
        self.stalled = 0

    def observe(self, value: float) -> bool:
        """Tell it a new value; True if it is the best so far. NaN never is, except before any number was seen."""
        better = not math.isnan(value) and (
            math.isnan(self.best) or ((value > self.best) == self.higher and value != self.best)
        )
        if better:
            self.best, self.stalled = value, 0
        else:
            self.stalled += 1
        return better

    @property
    def exhausted(self) -> bool:
        """Patience is used up."""
        return self.patience is not None and self.stalled > self.patience

    def state_dict(self) -> dict[str, float | None]:
        """JSON-able."""
        return {"best": None if math.isnan(self.best) else self.best, "stalled": self.stalled}

    def load_state_dict(self, state: dict[str, float | None]) -> None:
        """Continue from `state_dict()`."""
        self.best = math.nan if state["best"] is None else float(state["best"])
        self.stalled = int(state["stalled"] or 0)
