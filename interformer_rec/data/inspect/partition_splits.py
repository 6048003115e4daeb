"""Cut rows by time that lie in folders by time (Hive's partitions, `dt=2026-11-28/`). In: the files; out: a glob a split.

The oldest partitions are for training, newer ones for valid, the newest for test. Each split is one glob, so the cut falls where
a digit of the names changes: `week=[0-3]*`, `week=4*` and `week=5*` of 53 weeks.
"""

import re
from pathlib import PurePosixPath

from interformer_rec.data.inspect.column_names import words

KEYS = {"dt", "date", "day", "ds", "week", "month", "hour", "hr", "time", "timestamp"}
TRAINED = 0.8  # of the partitions, as near as a cut comes to it
FEWEST = 4  # partitions


def by_time(tails: list[str]) -> dict[str, str]:
    """train, valid and test as globs below the folder; {} where the files (paths below it) do not lie in folders by time.

    Names of one key, one length, digits and dashes; at least FEWEST of them.
    """
    parts = [tail.split("/") for tail in tails]
    depth = min(map(len, parts), default=0)
    level = next((at for at in range(depth - 1) if len({one[at] for one in parts}) > 1), None)
    if level is None:
        return {}
    names = sorted({one[level] for one in parts})
    keys = {name.partition("=")[0] for name in names}
    values = [name.partition("=")[2] for name in names]
    if len(names) < FEWEST or len(keys) > 1 or not KEYS.intersection(words(keys.pop())):
        return {}
    if len({len(value) for value in values}) > 1 or not all(
        re.fullmatch("[0-9]+(-[0-9]+)*", value) for value in values
    ):
        return {}
    cuts = [cut for cut in (_by_digit(names), _by_two_digits(names)) if cut]
    if not cuts:
        return {}
    globs = min(cuts, key=lambda cut: abs(_share(names, cut["train"]) - TRAINED))
    above = "".join(f"{name}/" for name in parts[0][:level])
    suffixes = {PurePosixPath(tail).suffix for tail in tails}
    below = ("*" if {len(one) for one in parts} == {level + 2} else "**/*") + (
        suffixes.pop() if len(suffixes) == 1 else ""
    )
    return {split: f"{above}{glob}/{below}" for split, glob in globs.items()}


def key_of(path: str) -> str | None:
    """The key of the partitions that a split's glob names; None of another path."""
    found = re.search(r"([^/=]+)=[^/]*\*/", path)
    return found.group(1) if found else None


def _by_digit(names: list[str]) -> dict[str, str]:
    """Cut by the first digit that differs: the highest is test, the next one valid."""
    start, digits = _differing(names)
    if len(digits) < 3:
        return {}
    return {
        "train": f"{start}{_class(digits[:-2])}*",
        "valid": f"{start}{digits[-2]}*",
        "test": f"{start}{digits[-1]}*",
    }


def _by_two_digits(names: list[str]) -> dict[str, str]:
    """Cut by the first digit that differs: those with the highest are halved, by their next one, into valid and test."""
    start, digits = _differing(names)
    newest = [name for name in names if name.startswith(start + digits[-1])]
    if len(newest) < 2:
        return {}
    inner, last = _differing(newest)
    half = len(last) // 2
    return {
        "train": f"{start}{_class(digits[:-1])}*",
        "valid": f"{inner}{_class(last[:half])}*",
        "test": f"{inner}{_class(last[half:])}*",
    }


def _differing(names: list[str]) -> tuple[str, list[str]]:
    """What all names (sorted, of one length) begin with, and the digits that follow it."""
    at = next(place for place, pair in enumerate(zip(names[0], names[-1], strict=True)) if pair[0] != pair[1])
    return names[0][:at], sorted({name[at] for name in names})


def _class(digits: list[str]) -> str:
    return digits[0] if len(digits) == 1 else f"[{''.join(digits)}]"


def _share(names: list[str], glob: str) -> float:
    matches = re.compile(glob.replace("*", ".*"))
    return sum(matches.fullmatch(name) is not None for name in names) / len(names)
