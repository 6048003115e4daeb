"""What a served model costs against the trained one: scorer, server, HTTP alone. CPU time, one thread.

    python -m benchmarks.serving [--json PATH] [--quick] [--models FOLDER] [--skip-servers]

KuaiRand's schema over made-up rows, d 32, one layer, embeddings of 16, histories of 100 and 1,000 events, 1, 50 and 500 candidates.
Alternatives: scoring.py and over_http.py. Ratios are of turns in one run. CPU time is what counts: wall times (latencies, rates) are of
the machine with whatever else it does. --models keeps the trained and exported models, and takes those that are there: most of the
time goes to the C++ compiler. --quick: tiny models and a few requests, to see that it works; its numbers mean nothing.
"""

import argparse
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.harness.machine import facts
from benchmarks.harness.result_file import write_result
from benchmarks.serving import accuracy, models, over_http, scoring
from benchmarks.serving.plain_server import Trained
from benchmarks.serving.targets import targets
from interformer_rec.distributed.environment import process_group

SHAPES = [(100, 1), (100, 50), (100, 500), (1_000, 1), (1_000, 50), (1_000, 500)]
SERVER_SHAPES = [(100, 1), (100, 50), (100, 500), (1_000, 50)]
QUICK_SHAPES = [(20, 1), (40, 50)]
ROUNDS, SECONDS = 15, 10.0  # of a shape


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="write the result here")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--models", help="folder that keeps the models")
    parser.add_argument("--skip-servers", action="store_true", help="the scorer alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with nullcontext(options.models) if options.models else tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), options.quick, not options.skip_servers, options.json)
    show(result)
    write_result(options.json, result)


def measure(folder: Path, quick: bool, servers: bool = True, path: str | None = None) -> dict[str, Any]:
    """The result; at `path` there is what has been measured so far."""
    size = models.TINY if quick else models.FULL
    exported = models.made(folder, size)
    note = "CPU times; wall times (latencies, rates) are of a machine that others used meanwhile"
    result: dict[str, Any] = {
        "benchmark": "serving",
        **facts(torch.device("cpu")),
        "note": note,
        "exports": exported.facts,
    }
    rows: list[dict[str, Any]] = []

    def keep(more: list[dict[str, Any]]) -> None:
        rows.extend(more)
        result.update(targets=targets(rows), cases=rows)
        write_result(path, result, done=False)

    with process_group("cpu") as env:
        loaded = scoring.load(exported, Trained(str(exported.run), env))
        for events, candidates in QUICK_SHAPES if quick else SHAPES:
            keep(scoring.measure_shape(loaded, events, candidates, 3 if quick else ROUNDS, SECONDS))
        keep(accuracy.measure_accuracy(loaded, size, 2 if quick else accuracy.SETS))
    if servers:
        traffic = over_http.QUICK if quick else over_http.FULL
        shapes = QUICK_SHAPES if quick else SERVER_SHAPES
        with tempfile.TemporaryDirectory() as scratch:
            for more in over_http.measure_servers(Path(scratch), exported, shapes, traffic):
                keep(more)
            keep(over_http.measure_overload(Path(scratch), exported, *shapes[1], traffic))
    return result


def show(result: dict[str, Any]) -> None:
    """Tables on the terminal."""
    console = Console(width=150)
    shown = Table(box=None, header_style="bold")
    for name in ("level", "events", "candidates", "alternative", "CPU ms", "times C rows", "p50 / p90 / p99 ms (wall)"):
        shown.add_column(name, justify="left" if name in ("level", "alternative") else "right")
    for row in result["cases"]:
        if row["level"] in ("overload", "accuracy"):
            continue
        latency = (
            " / ".join(f"{row['latency_ms'][p]:.1f}" for p in ("p50", "p90", "p99")) if row.get("latency_ms") else ""
        )
        places = [str(row.get(name, "")) for name in ("events", "candidates")]
        shown.add_row(
            row["level"],
            *places,
            row["alternative"],
            f"{row['cpu_ms']:.3f}",
            str(row.get("times_jagged") or ""),
            latency,
        )
    console.print(shown)
    for row in result["cases"]:
        if row["level"] == "accuracy":
            console.print(
                f"{row['alternative']} tables, {row['rows']:,} rows: AUC changes by {row['auc_change']:.1e} "
                f"(standard error {row['standard_error']:.1e}), a logit by {row['largest_difference']:.1e} at most"
            )
        if row["level"] == "overload":
            shares = ", ".join(f"{row[f'share_{status}']:.1%} {status}" for status in (200, 429, 504))
            console.print(
                f"{row['times_reached']} x the rate reached ({row['open_per_second']}/s): {shares}; "
                f"accepted p99 {row['latency_ms'].get('p99')} ms, refused p99 {row['refused_ms'].get('p99')} ms, {row['grown_mb']} MB grown"
            )
    for target in result["targets"]:
        met = "not measured" if target["met"] is None else "met" if target["met"] else "NOT MET"
        found = "" if target["found"] is None else f"{target['found']:.4g}"
        console.print(f"{target['what']}: {found} ({target['bound']}): {met}")
