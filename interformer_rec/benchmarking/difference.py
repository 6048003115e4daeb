"""`interformer benchmark diff A B`. In: two results; out: what became slower, faster or larger beyond noise, point by point.

A point counts as changed where its samples/s differ by more than the noise that is allowed and by more than half of its own middle half of
step times, of both results. Times of two machines, or of a busy and a quiet one, say little: what differs between the two is said first.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from interformer_rec.benchmarking.result import read
from interformer_rec.errors import InputError
from interformer_rec.files import finite
from interformer_rec.redaction import redact
from interformer_rec.text import count, size

POINT = ("kind", "longest", "candidates", "ranks")
SAME = ("name", "set", "version", "device", "cores", "threads", "precision", "fill", "versions")
ALIKE = ("what", "distribution")  # else a point of one is none of the other
MEMORY = 1.05  # a peak that grows by less is the same


def compare(first: str, second: str, noise: float, as_json: bool = False) -> int:
    """Print what differs; 0. Raises InputError for what is no result, or results of different things."""
    if not 0 <= noise < 1:
        raise InputError(f"--noise {noise:g}: a share, from 0 to below 1")
    found = difference(read(first), read(second), noise)
    if as_json:
        print(json.dumps(finite(found)))
    else:
        show(Console(width=None if sys.stdout.isatty() else 160), found)
    return 0


def difference(before: Mapping[str, Any], after: Mapping[str, Any], noise: float) -> dict[str, Any]:
    """{differs: header facts, points: of both with ratios and a verdict, only_before, only_after}."""
    for key in ALIKE:
        if before[key] != after[key]:
            raise InputError(
                f"one result has {key} {before[key]!r}, the other {after[key]!r}: they are not of the same points"
            )
    old, new = ({tuple(case[key] for key in POINT): case for case in found["cases"]} for found in (before, after))
    return {
        "differs": {key: [before.get(key), after.get(key)] for key in SAME if before.get(key) != after.get(key)},
        "points": [_compared(old[point], new[point], noise) for point in old if point in new],
        "only_before": [dict(zip(POINT, point, strict=True)) for point in old if point not in new],
        "only_after": [dict(zip(POINT, point, strict=True)) for point in new if point not in old],
    }


def _compared(old: Mapping[str, Any], new: Mapping[str, Any], noise: float) -> dict[str, Any]:
    rates: list[Any] = [case.get("samples_per_second") for case in (old, new)]
    peaks: list[Any] = [case.get("peak_bytes") for case in (old, new)]
    found: dict[str, Any] = {key: old[key] for key in POINT}
    found |= {"samples_per_second": rates, "peak_bytes": peaks, "batch_size": [old["batch_size"], new["batch_size"]]}
    if None in rates:
        return {**found, "times_as_fast": None, "verdict": "not measured in both"}
    ratio, threshold = rates[1] / rates[0], 1 + max(noise, _spread(old), _spread(new))
    verdict = "faster" if ratio > threshold else "slower" if ratio < 1 / threshold else "same"
    larger = None not in peaks and peaks[1] > MEMORY * peaks[0]
    return {**found, "times_as_fast": ratio, "threshold": threshold, "verdict": verdict, "larger": larger}


def _spread(case: Mapping[str, Any]) -> float:
    return (case["step_ms_p75"] - case["step_ms_p25"]) / 2 / case["step_ms"]


def show(console: Console, found: Mapping[str, Any]) -> None:
    """For the terminal."""
    for key, (first, second) in found["differs"].items():
        console.print(f"{key}: {first} -> {second}", markup=False, highlight=False, soft_wrap=True)
    table = Table(box=None, header_style="bold")
    table.add_column("model")
    for name in (
        "longest",
        "cand.",
        "ranks",
        "samples/s before",
        "after",
        "times as fast",
        "same within",
        "peak before",
        "after",
    ):
        table.add_column(name, justify="right")
    table.add_column("")
    for point in found["points"]:
        ratio = point["times_as_fast"]
        numbers = ["–", "–"] if ratio is None else [f"{ratio:.2f}", f"{point['threshold'] - 1:.0%}"]
        verdict = point["verdict"] + (", larger" if point.get("larger") else "")
        style = {"slower": "red", "faster": "green"}.get(point["verdict"])
        head = (
            escape(redact(point["kind"])),
            count(point["longest"]),
            str(point["candidates"] or "–"),
            str(point["ranks"]),
        )
        rates, peaks = point["samples_per_second"], point["peak_bytes"]
        table.add_row(
            *head, *(count(rate and round(rate)) for rate in rates), *numbers, *map(size, peaks), verdict, style=style
        )
    console.print(table)
    for key, text in (("only_before", "only in the first"), ("only_after", "only in the second")):
        if found[key]:
            console.print(f"{text}: {len(found[key])} point(s)")
