"""What a longer history costs. In: the cases of a result; out: steps from one length to the next, of points that are alike otherwise."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

LINE = ("kind", "candidates", "ranks")  # a curve over lengths has one value of each


def doublings(cases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """From each length to the next one: `times` as long a sample takes, and how many times that is for each doubling in between, both by
    the clock and by CPU time, which other programs change less; bytes that the peak grows by; only where both were measured."""
    lines: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for case in cases:
        if case.get("samples_per_second"):
            lines.setdefault(tuple(case[key] for key in LINE), []).append(case)
    found = []
    for key, line in lines.items():
        for short, long in itertools.pairwise(sorted(line, key=lambda case: case["longest"])):
            times, octaves = (
                short["samples_per_second"] / long["samples_per_second"],
                math.log2(long["longest"] / short["longest"]),
            )
            cpu = long["cpu_ms_a_sample"] / short["cpu_ms_a_sample"] if short["cpu_ms_a_sample"] else None
            peaks = (short["peak_bytes"], long["peak_bytes"])
            found.append(
                {
                    **dict(zip(LINE, key, strict=True)),
                    "from": short["longest"],
                    "to": long["longest"],
                    "events_from": short["events_a_row"],
                    "events_to": long["events_a_row"],
                    "times": times,
                    "a_doubling": times ** (1 / octaves),
                    "times_cpu": cpu,
                    "a_doubling_cpu": None if cpu is None else cpu ** (1 / octaves),
                    "more_bytes": None if None in peaks else peaks[1] - peaks[0],
                }
            )
    return found
