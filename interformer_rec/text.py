"""How values are written. In: numbers, for the report what JSON holds, None and NaN included; out: text, – where there is no number."""

import math
from collections.abc import Collection, Iterable
from typing import Any

MIB, GIB = 1 << 20, 1 << 30  # bytes


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


def milliseconds(value: float) -> str:
    """Three digits; html/numbers.js writes them so, too."""
    if value >= 100:
        return f"{value:,.0f} ms"
    if value >= 1:
        return f"{value:.1f} ms" if value >= 10 else f"{value:.2f} ms"
    return "<0.001 ms" if 0 < value < 0.001 else f"{value:.3g} ms"


def runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """(0, 1, 2, 5) -> [(0, 2), (5, 5)]: first and last of each unbroken run, ascending."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def ranges(numbers: Collection[int], dash: str = "-", most: int | None = None) -> str:
    """(0, 1, 2, 5) -> '0-2, 5'; of more than `most` runs only those, and how many numbers there are."""
    texts = [str(first) if first == last else f"{first}{dash}{last}" for first, last in runs(numbers)]
    more = f", ... ({len(numbers)})" if most is not None and len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def ranks(value: Any) -> str:
    """[0, 1, 2, 5] -> 0–2, 5."""
    return ranges(value, "–") if isinstance(value, list) else str(value)


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


def clock(duration: float) -> str:
    """Seconds as 1:02:03."""
    minutes, rest = divmod(round(duration), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def seconds(duration: float) -> str:
    """Seconds as such, as limits are written."""
    return f"{duration:.0f} s" if duration >= 10 else f"{duration:.1f} s"
