"""A window: a part of time and its rows. In: names of folders, files or times; out: their order, and how far they are apart.

Names are ordered as numbers where they hold numbers, so hr=9 comes before hr=10; with numbers of one width that is lexical order.
"""

import itertools
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

_PARTS = re.compile(r"(\d+)")
Key = tuple[tuple[int, int, str], ...]


@dataclass(frozen=True)
class Window:
    """One that is there now."""

    name: str
    files: tuple[str, ...]  # of its rows, sorted; none: it is empty
    sizes: int  # checksum of the files' names and sizes
    modified: float | None = None  # when the newest of them was written; None: the store does not say
    unfinished: str | None = None  # why it is not whole yet


class Seen(NamedTuple):
    """What is kept of a window that a run has left behind, or is in; JSON-able by `_asdict`."""

    name: str
    outcome: str  # trained, empty, or late: it came too late and is never read
    sizes: int
    modified: float | None
    footers: int  # checksum of the files' footers
    rows: int


def order_of(name: str) -> Key:
    """Sorts names in the order of time."""
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part) for part in _PARTS.split(name) if part)


def sizes_of(files: Iterable[tuple[str, int]]) -> int:
    """Checksum of (name, bytes) pairs."""
    return zlib.crc32("\0".join(f"{name}\0{size}" for name, size in files).encode("utf-8", "surrogatepass"))


class Moment(NamedTuple):
    """A place in time as a name says it: `at` in units of `unit`."""

    unit: str  # day, hour, month, number
    at: int


def moment_of(name: str) -> Moment | None:
    """The date, hour, month or number in a name; None where it holds none, or more than one can tell."""
    texts = re.findall(r"\d+", name)
    numbers = [int(text) for text in texts]
    if texts and len(texts[0]) == 8 and len(texts) <= 2:  # 20261128
        numbers = [numbers[0] // 10_000, numbers[0] // 100 % 100, *[numbers[0] % 100, *numbers[1:]]]
    elif texts and len(texts[0]) == 6 and len(texts) == 1 and 1 <= numbers[0] % 100 <= 12:  # 202611
        numbers = [numbers[0] // 100, numbers[0] % 100]
    if len(numbers) == 1:
        return Moment("number", numbers[0])
    if not numbers or not 1900 <= numbers[0] <= 9999 or not 1 <= numbers[1] <= 12:
        return None
    if len(numbers) == 2:
        return Moment("month", 12 * numbers[0] + numbers[1])
    try:
        day = date(*numbers[:3]).toordinal()
    except ValueError:
        return None
    if len(numbers) == 3:
        return Moment("day", day)
    return Moment("hour", 24 * day + numbers[3]) if numbers[3] < 24 and len(numbers) == 4 else None


def missing_between(before: str, after: str, names: Iterable[str]) -> int:
    """How many windows are missing between two that follow each other, by the smallest step among `names`; 0 where nobody can tell."""
    moments = [moment_of(name) for name in {before, after, *names}]
    first, second = moment_of(before), moment_of(after)
    if first is None or second is None or any(one is None or one.unit != first.unit for one in moments):
        return 0
    places = sorted(one.at for one in moments if one is not None)
    step = min((b - a for a, b in itertools.pairwise(places) if b > a), default=0)
    return max(0, (second.at - first.at) // step - 1) if step else 0
