"""Waiting for what somebody else writes. In: how long; out: nothing, or the signal that ends it. The watchdog sees progress meanwhile."""

import math
import time
from collections.abc import Callable

from interformer_rec.training.loop import Run
from interformer_rec.training.stopping import StopAgreement

LONGEST = 1.0  # seconds between two signs of life, and two looks for a signal


def wait(run: Run, agreement: StopAgreement, seconds: float, meanwhile: Callable[[], None]) -> int:
    """Wait so long, all ranks the same number of turns, and do `meanwhile` in each (collective). Returns the signal to stop for, or 0.

    A rank that is not there any more ends the wait as it ends a step: its connection breaks, or the watchdog misses its beats.
    """
    turn = min(seconds, LONGEST, agreement.PART * agreement.seconds)
    for _ in range(math.ceil(seconds / turn)):
        run.at("waiting for the next window")
        meanwhile()
        time.sleep(turn)
        if signal := agreement.now():
            return signal
    return 0
