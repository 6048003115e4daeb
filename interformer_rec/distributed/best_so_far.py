"""The best value of a metric so far and for how long there was no better one. In: values; out: which are the best, and JSON.

Patience (training/stopping.py) and the plateau schedule (optimizer.py) each keep one; both go into checkpoints and come back.
"""

import math
from typing import Any


class BestSoFar:
    """`value` is None until one was seen: no number stands for that, for every number is a good value of some metric."""

    def __init__(self, higher_is_better: bool) -> None:
        self.higher = higher_is_better
        self.value: float | None = None
        self.stalled = 0

    def observe(self, value: float) -> bool:
        """Take a new value; True if it is the best so far. NaN never is."""
        if not math.isnan(value) and (
            self.value is None or (value > self.value if self.higher else value < self.value)
        ):
            self.value, self.stalled = value, 0
            return True
        self.stalled += 1
        return False

    def state_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"value": self.value, "stalled": self.stalled}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self.value, self.stalled = state["value"], state["stalled"]
