"""Two result files of one benchmark: what became slower or faster beyond noise.

    python -m benchmarks.harness.compare BEFORE.json AFTER.json [--noise 0.05] [--json PATH]

Cases are matched by everything that describes them. A case is flagged where its P50 differs by more than --noise and by more than
the two runs' own spreads (P99 over P50 says how far turns lay apart; half of it counts). Absolute times of two machines, or of a
busy and a quiet one, say nothing: a header warns where the files' hardware or threads differ. Exit code 1 if something regressed.
"""

import argparse
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harness.result_file import read_result, write_result
from interformer_rec.errors import InputError

# What a case measures; everything else in it says what the case is.
MEASURED = {
    "p50_ms", "p99_ms", "repeats", "samples_per_second", "events_per_second", "mfu", "peak_bytes", "times_jagged", "fill", "events",
    "flops", "attention_flops_share", "gb_per_second", "of_ceiling", "ratio", "efficiency", "data_wait_share", "error", "rows",
    "backward_ms", "tflops", "speedup", "times_ours",
}  # fmt: skip
SAME_MACHINE = ("device", "cores", "threads", "precision")


def compare(before: dict[str, Any], after: dict[str, Any], noise: float) -> dict[str, Any]:
    """{differences: header facts that differ, changes: matched cases with ratio and verdict, only_before, only_after}.

    Raises InputError for results of two benchmarks.
    """
    if before.get("benchmark") != after.get("benchmark"):
        raise InputError(f"one result is of {before.get('benchmark')!r}, the other of {after.get('benchmark')!r}")
    old, new = ({_key(case): case for case in result["cases"]} for result in (before, after))
    changes = []
    for key in old.keys() & new.keys():
        first, second = old[key], new[key]
        if not first.get("p50_ms") or not second.get("p50_ms"):
            continue
        ratio = second["p50_ms"] / first["p50_ms"]
        threshold = 1 + max(noise, _spread(first), _spread(second))
        verdict = "slower" if ratio > threshold else "faster" if ratio < 1 / threshold else "same"
        changes.append(
            {
                "case": dict(key),
                "before_ms": first["p50_ms"],
                "after_ms": second["p50_ms"],
                "ratio": ratio,
                "threshold": threshold,
                "verdict": verdict,
            }
        )
    changes.sort(key=lambda change: -change["ratio"])
    return {
        "differences": {name: [before.get(name), after.get(name)] for name in SAME_MACHINE if before.get(name) != after.get(name)},
        "changes": changes,
        "only_before": [dict(key) for key in old.keys() - new.keys()],
        "only_after": [dict(key) for key in new.keys() - old.keys()],
    }  # fmt: skip


def _key(case: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted((name, str(value)) for name, value in case.items() if name not in MEASURED))


def _spread(case: dict[str, Any]) -> float:
    p99 = case.get("p99_ms")
    return 0.0 if not p99 else (p99 / case["p50_ms"] - 1) / 2


def main() -> int:
    """Print a table; 1 if a case became slower."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--noise", type=float, default=0.05)
    parser.add_argument("--json")
    options = parser.parse_args()
    try:
        found = compare(read_result(options.before), read_result(options.after), options.noise)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    console = Console(width=None if sys.stdout.isatty() else 160)
    for name, (first, second) in found["differences"].items():
        console.print(f"not the same {name}: {first} and {second}; times do not compare", style="bold red")
    shown = Table(box=None, header_style="bold")
    for name in ("case", "before ms", "after ms", "ratio", "beyond", ""):
        shown.add_column(name, justify="left" if name in ("case", "") else "right")
    same = {name for change in found["changes"] for name in change["case"]}
    varying = [n for n in sorted(same) if len({change["case"].get(n) for change in found["changes"]}) > 1]
    for change in found["changes"]:
        label = " ".join(change["case"].get(name, "") for name in varying) or "(the only case)"
        numbers = [f"{change[name]:.2f}" for name in ("before_ms", "after_ms", "ratio", "threshold")]
        shown.add_row(label, *numbers, change["verdict"])
    console.print(shown)
    slower = sum(change["verdict"] == "slower" for change in found["changes"])
    rest = ", ".join(f"{len(found[key])} {key.replace('_', ' ')}" for key in ("only_before", "only_after"))
    console.print(f"{len(found['changes'])} cases in both, {slower} slower, {rest}")
    write_result(options.json, {"benchmark": "compare", "cases": found["changes"], **found})
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
