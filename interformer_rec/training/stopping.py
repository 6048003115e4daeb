"""When to stop: signals asked for, agreed on by all ranks; and progress of the monitored metric. Out: small decisions."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
import torch.distributed as dist

from interformer_rec.config.run import HIGHER_IS_BETTER
from interformer_rec.distributed.best_so_far import BestSoFar

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """Remembers the first SIGINT, SIGTERM or SIGHUP; the ranks act on it together (StopAgreement)."""

    def __init__(self) -> None:
        self.signal = 0

    @contextmanager
    def listen(self) -> Iterator[StopRequest]:
        """Take over the signals inside the block; a second SIGINT interrupts at once.

        A SIGHUP that `nohup` lets the process ignore stays ignored; torchrun's workers have theirs from the agent, which means it.
        """
        ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN and "TORCHELASTIC_RUN_ID" not in os.environ
        numbers = [number for number in STOP_SIGNALS if not (ignored and number == signal.SIGHUP)]
        previous = {number: signal.signal(number, self._notice) for number in numbers}
        try:
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _notice(self, number: int, frame: FrameType | None) -> None:
        if self.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = self.signal or number


class StopAgreement:
    """Whether some rank was asked to stop, exchanged between all ranks as often as `seconds` need, and no more often.

    SIGTERM reaches ranks at different steps; they must stop at the same one. The ranks exchange one small vector, about ten
    times in `seconds`, however long a step takes; the slowest rank's pace decides, so that all ask at the same step.
    """

    PART = 0.1

    def __init__(self, request: StopRequest, seconds: float, device: torch.device) -> None:
        self.request, self.seconds, self.device = request, seconds, device
        self._interval = 1  # steps; doubles until the pace is known to need no more
        self._steps = 0
        self._since = time.perf_counter()

    def step(self) -> int:
        """Count a step of training or evaluation; the number of the signal to stop for, or 0, the same on every rank."""
        self._steps += 1
        if self._steps < self._interval:
            return 0
        return self.now()

    def now(self) -> int:
        """The same at once, for something else than a step, which may have taken long."""
        now = time.perf_counter()
        requests = [float(self.request.signal == number) for number in STOP_SIGNALS]
        vector = torch.tensor([now - self._since, *requests], dtype=torch.float64, device=self.device)
        dist.all_reduce(vector, dist.ReduceOp.MAX)
        seconds, *asked = vector.tolist()
        fitting = int(self.PART * self.seconds * max(1, self._steps) / max(seconds, 1e-9))
        self._interval = max(1, min(2 * self._interval, fitting))
        self._steps, self._since = 0, now
        return next((number for number, count in zip(STOP_SIGNALS, asked, strict=True) if count), 0)


class Progress(BestSoFar):
    """Best value of the monitored metric and how long it has stalled."""

    def __init__(self, monitor: str, patience: int | None) -> None:
        super().__init__(HIGHER_IS_BETTER[monitor])
        self.patience = patience

    @property
    def exhausted(self) -> bool:
        """Patience is used up."""
        return self.patience is not None and self.stalled > self.patience
