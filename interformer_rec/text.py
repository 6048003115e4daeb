"""How the report writes values. In: what JSON holds, None and NaN included; out: text, – where there is no number."""

from __future__ import annotations

import math
from typing import Any


def number(value: Any) -> float | None:
    """A finite number as float, else None."""
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else None


def metric(value: Any) -> str:
    """Four decimals."""
    found = number(value)
    return "–" if found is None else f"{found:.4f}"


def count(value: Any) -> str:
    """Thousands apart; small fractions with one decimal; of a mapping (reason -> rows) the sum."""
    if isinstance(value, dict):
        value = sum(value.values())
    found = number(value)
    if found is None:
        return "–"
    return f"{found:,.0f}" if found == round(found) or found >= 1000 else f"{found:,.1f}"


def share(value: Any) -> str:
    """Per cent."""
    found = number(value)
    return "–" if found is None else f"{found:.1%}"


def size(value: Any) -> str:
    """Bytes in the unit that reads best."""
    found = number(value)
    if found is None:
        return "–"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if found < 1024:
            return f"{found:.0f} B" if unit == "B" else f"{found:.1f} {unit}"
        found /= 1024
    return f"{found:.2f} TiB"


def ranks(value: Any) -> str:
    """[0, 1, 2, 5] -> 0–2, 5."""
    if not isinstance(value, list):
        return str(value)
    runs: list[list[int]] = []
    for rank in sorted(value):
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    return ", ".join(f"{run[0]}" if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)


def duration(value: Any) -> str:
    """Seconds in the unit that reads best."""
    found = number(value)
    if found is None:
        return "–"
    if found < 60:
        return f"{found:.1f} s"
    minutes, seconds = divmod(round(found), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
