"""Options such as train=2022-04-15:2022-05-04 -> which split a time belongs to. In: the recipe's options; out: splits of
whole local days that follow each other."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from interformer_rec.errors import InputError

SPLITS = ("train", "valid", "test")
EAST_8 = 8 * 3600  # seconds that China's clocks are ahead of UTC
DAY = 24 * 3600


def local_days(seconds: np.ndarray) -> np.ndarray:
    """Unix seconds -> days since 1 January 1970 by the clock in China (UTC+8)."""
    return (seconds + EAST_8) // DAY


@dataclass(frozen=True)
class DaySplits:
    """First and last day, both included, of train, valid and test."""

    days: dict[str, tuple[int, int]]

    @classmethod
    def of(cls, options: dict[str, Any]) -> DaySplits:
        """From the options train, valid and test. Raises InputError for text that is no such span, or spans out of order."""
        days, before = {}, -(1 << 31)
        for split in SPLITS:
            try:
                first, last = (date.fromisoformat(day).toordinal() for day in str(options[split]).split(":"))
            except ValueError:
                raise InputError(
                    f"option {split} is {options[split]!r}; write first and last day as 2022-05-01:2022-05-04"
                ) from None
            if not before < first <= last:
                raise InputError(
                    f"option {split} is {options[split]!r}; train, valid and test must follow each other without a common "
                    "day, for a model is tested on days after those it was trained on"
                )
            days[split], before = (first - EPOCH, last - EPOCH), last
        return cls(days)

    def rows(self, split: str, seconds: np.ndarray) -> np.ndarray:
        """Which times (n,), Unix seconds, are in the split; (n,) bool."""
        first, last = self.days[split]
        day = local_days(seconds)
        return (day >= first) & (day <= last)


EPOCH = date(1970, 1, 1).toordinal()
