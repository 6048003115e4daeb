"""Throughput over sequence lengths: jagged against the same model padded, eager and compiled, in one interleaved run.

    python -m benchmarks.seq_length [--workload kuairand] [--lengths 64,128,256,512,1024] [--distributions fixed,zipf,data]
        [--fill 0.25] [--events 16384] [--layers 2] [--d 32] [--merge separate] [--preset default] [--variants jagged,padded]
        [--window 0,64] [--attention-every 1,2] [--in-turns] [--device cpu] [--precision fp32] [--threads 1] [--rounds 9]
        [--json PATH]

A step is forward and backward of the dense part on one batch; lists of values are crossed. Batches are sized so that every case
has about --events events in all (at least 8 rows), so the events/s of two lengths compare. MFU: FLOPs of the matrix products on
real events (model_flops.py) over the step's time, against a matmul ceiling measured in this run. Peak memory is what one
step adds. Ratios are of turns right after each other. --in-turns: the lengths take turns too, jagged and fixed, in CPU
time of the process, and each has the cost of an event by that of the shortest. `benchmarks.harness.plot` draws the JSON.
Needs torch, numpy, pydantic and rich, no TorchRec.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks import lengths as length_distributions
from benchmarks.harness.interleaved import measure
from benchmarks.harness.machine import facts, peak_bytes
from benchmarks.harness.result_file import write_result
from benchmarks.model_flops import FlopCount
from benchmarks.padded import padded_events
from benchmarks.variants import VARIANTS, Steps
from benchmarks.workload import WORKLOADS, Workload
from interformer_rec.benchmarking.machine import matmul_ceiling
from interformer_rec.model.interformer import InterFormer

LEAST_ROWS = 8
CHANGED = ("layers", "d", "merge", "preset", "window", "attention_every")  # options by which a workload is changed
PARTS = ("jagged, linear", "jagged, empty")  # of the model: its FLOPs are not theirs


def measure_case(
    workload: Workload, longest: int, distribution: str, options: argparse.Namespace, ceiling: float
) -> list[dict[str, Any]]:
    """One row for each variant; one that cannot run (out of memory) has an error in the place of numbers."""
    device = torch.device(options.device)
    features, model_options = workload.features(longest), workload.model()
    drawn = length_distributions.draw(distribution, 4096, longest, options.fill)
    rows = max(LEAST_ROWS, round(options.events / workload.groups / max(1.0, float(drawn.mean()))))
    lengths = {
        group.name: length_distributions.draw(distribution, rows, longest, options.fill, seed=i)
        for i, group in enumerate(features.sequences)
    }
    steps = Steps(features, model_options, lengths, device, options.precision)
    flops = FlopCount(features, model_options, InterFormer(features, model_options)).of(lengths)
    alternatives, errors = tried({variant: steps.get(variant) for variant in options.variants}, device)
    times = measure(alternatives, options.rounds, device=device, seconds=options.case_seconds)
    events = steps.inputs.events
    what = {
        "workload": workload.name,
        "preset": workload.preset,
        "merge": steps.model.preprocess.merge,
        "layers": workload.layers,
        "d": workload.d,
        "window": workload.window,
        "attention_every": workload.attention_every,
        "longest": longest,
        "distribution": distribution,
        "rows": rows,
        "events": events,
        "fill": events / padded_events(lengths, longest),
    }
    found = [{**what, "variant": variant, "error": error} for variant, error in errors.items()]
    for variant, step in alternatives.items():
        taken = times[variant]
        found.append(
            {
                **what,
                "variant": variant,
                "samples_per_second": rows / taken.median,
                "events_per_second": events / taken.median,
                "flops": flops.total,
                "flops_per_second": flops.total / taken.median if variant not in PARTS else None,
                "attention_flops_share": flops.attention / flops.total,
                "mfu": flops.total / taken.median / ceiling if variant not in PARTS else None,
                "peak_bytes": peak_bytes(step, device),
                "times_jagged": taken.ratio(times["jagged"])["median"] if "jagged" in times else None,
                **taken.to_dict(),
            }
        )
    if {"jagged", "jagged, linear", "jagged, empty"} <= set(times):
        whole, linear, empty = (times[name].median for name in ("jagged", "jagged, linear", "jagged, empty"))
        jagged = next(row for row in found if row["variant"] == "jagged")
        jagged["linear_ns_per_event"] = (linear - empty) / events * 1e9
        jagged["attention_ns_per_event"] = (whole - linear) / events * 1e9
    return found


def in_turns(workload: Workload, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each length: what an event costs, all lengths measured in the same rounds."""
    steps, events = {}, {}
    for longest in options.lengths:
        features = workload.features(longest)
        rows = max(1, round(options.events / workload.groups / longest))
        lengths = {group.name: np.full(rows, longest) for group in features.sequences}
        one = Steps(features, workload.model(), lengths, torch.device(options.device), options.precision)
        steps[str(longest)], events[str(longest)] = one.get("jagged"), one.inputs.events
    times = measure(steps, options.rounds, clock=time.process_time)
    shortest = str(min(options.lengths))
    found = []
    for longest in steps:
        by_time = times[shortest].ratio(times[longest])
        share = events[shortest] / events[longest]
        what = {"workload": workload.name, "layers": workload.layers, "d": workload.d, "window": workload.window}
        found.append(
            {
                **what,
                "attention_every": workload.attention_every,
                "longest": int(longest),
                "events": events[longest],
                "cpu_ns_per_event": times[longest].median / events[longest] * 1e9,
                "times_the_shortest": {name: value * share for name, value in by_time.items()},
                "repeats": options.rounds,
            }
        )
    return found


def tried(
    alternatives: dict[str, Callable[[], Tensor]], device: torch.device
) -> tuple[dict[str, Callable[[], Tensor]], dict[str, str]]:
    """Those that can take a step, and the errors of the others."""
    errors = {}
    for variant, step in alternatives.items():
        try:
            step()
        except Exception as error:  # out of memory, or a compiler's refusal: a result here, not the end of the run
            errors[variant] = f"{type(error).__name__}: {str(error).strip()[:300]}"
            if device.type == "cuda":
                torch.cuda.empty_cache()
    return {variant: step for variant, step in alternatives.items() if variant not in errors}, errors


def cases(options: argparse.Namespace) -> list[tuple[Workload, int, str]]:
    """All combinations; a fixed length has fill 1 whatever --fill says."""
    return list(itertools.product(shapes(options), options.lengths, options.distributions))


def shapes(options: argparse.Namespace) -> list[Workload]:
    """All models."""
    return [
        WORKLOADS[name].with_(**{key: value for key, value in changes.items() if value is not None})
        for name in options.workload
        for changes in (
            dict(zip(CHANGED, values, strict=True))
            for values in itertools.product(*(getattr(options, name) for name in CHANGED))
        )
    ]


def table(rows: list[dict[str, Any]]) -> Table:
    """For the terminal."""
    shown = Table(box=None, header_style="bold")
    names = ["model", "longest", "lengths", "fill", "rows", "variant", "samples/s", "events/s"]
    names += ["P50 ms", "P99 ms", "MFU", "peak MiB", "x jagged"]
    for name in names:
        shown.add_column(name, justify="left" if name in ("model", "lengths", "variant") else "right")
    for row in rows:
        if "error" in row:
            name = f"{row['workload']} {row['preset']} {row['merge']} d{row['d']} x{row['layers']}"
            shown.add_row(
                name, str(row["longest"]), row["distribution"], "", "", row["variant"], row["error"], style="red"
            )
            continue
        peak = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**20:,.0f}"
        shown.add_row(
            f"{row['workload']} {row['preset']} {row['merge']} d{row['d']} x{row['layers']}" + windows(row),
            str(row["longest"]), row["distribution"], f"{row['fill']:.2f}", str(row["rows"]), row["variant"],
            f"{row['samples_per_second']:,.0f}", f"{row['events_per_second']:,.0f}", f"{row['p50_ms']:.1f}",
            f"{row['p99_ms']:.1f}", "" if row["mfu"] is None else f"{row['mfu']:.1%}", peak,
            "" if row["times_jagged"] is None else f"{row['times_jagged']:.2f}",
        )  # fmt: skip
    return shown


def windows(row: dict[str, Any]) -> str:
    """What a model's name says of its attention."""
    return (f" w{row['window']}" if row["window"] else "") + (
        f" m{row['attention_every']}" if row["attention_every"] > 1 else ""
    )


def main() -> None:
    """Parse, measure, print, write."""
    options = parse()
    torch.set_num_threads(options.threads or torch.get_num_threads())
    device = torch.device(options.device)
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    ceiling = matmul_ceiling(device, dtype)
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(
        f"matmul ceiling: {ceiling / 1e12:.3f} TFLOP/s ({options.precision}, {torch.get_num_threads()} threads)"
    )
    result: dict[str, Any] = {"benchmark": "seq_length", **facts(device), "ceiling_flops": ceiling}
    result |= {"precision": options.precision, "cases": []}
    if options.in_turns:
        result["cases"] = [row for workload in shapes(options) for row in in_turns(workload, options)]
        for row in result["cases"]:
            times = row["times_the_shortest"]
            console.print(
                f"window {row['window'] or 'none'}, attention in every {row['attention_every']}. layer, {row['longest']} events: "
                f"{row['cpu_ns_per_event']:,.0f} ns an event, {times['median']:.2f} times [{times['p25']:.2f}, {times['p75']:.2f}]"
            )
        write_result(options.json, result)
        return
    for workload, longest, distribution in cases(options):
        torch.compiler.reset()
        result["cases"] += measure_case(workload, longest, distribution, options, ceiling)
        write_result(options.json, result, done=False)
        console.print(f"{workload.name} {workload.preset} {workload.merge} {longest} {distribution}: done", style="dim")
    console.print(table(result["cases"]))
    for row in result["cases"]:
        if "linear_ns_per_event" in row:
            console.print(
                f"longest {row['longest']}, {row['distribution']}: an event costs {row['linear_ns_per_event']:,.0f} ns without its "
                f"pairs, {row['attention_ns_per_event']:,.0f} ns for its pairs in attention"
            )
    write_result(options.json, result)


def parse() -> argparse.Namespace:
    """Options; ends with a message for a name that does not exist."""

    def listed(kind: Any) -> Any:
        return lambda text: [kind(part.strip()) for part in text.split(";" if ";" in text else ",") if part.strip()]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", type=listed(str), default=["kuairand"])
    parser.add_argument("--lengths", type=listed(int), default=[64, 128, 256, 512, 1024])
    parser.add_argument("--distributions", type=listed(str), default=list(length_distributions.DISTRIBUTIONS))
    parser.add_argument("--fill", type=float, default=0.25, help="of zipf lengths")
    parser.add_argument("--events", type=int, default=16384, help="of a batch, all groups together")
    parser.add_argument("--layers", type=listed(int), default=[None])
    parser.add_argument("--d", type=listed(int), default=[None])
    parser.add_argument("--merge", type=listed(str), default=[None])
    parser.add_argument("--preset", type=listed(str), default=[None])
    parser.add_argument("--window", type=listed(int), default=[None], help="of attention; 0: none")
    parser.add_argument("--attention-every", type=listed(int), default=[None])
    parser.add_argument("--in-turns", action="store_true", help="the lengths take turns: the cost of an event")
    parser.add_argument(
        "--variants", type=listed(str), default=["jagged", "padded"], help="divide by ';': " + "; ".join(VARIANTS)
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default=None)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--case-seconds", type=float, default=60.0, help="a case ends after 3 rounds once this has passed"
    )
    parser.add_argument("--json")
    options = parser.parse_args()
    options.precision = options.precision or ("bf16" if options.device.startswith("cuda") else "fp32")
    known_names = (WORKLOADS, length_distributions.DISTRIBUTIONS, VARIANTS)
    for given, known in zip((options.workload, options.distributions, options.variants), known_names, strict=True):
        for name in given:
            if name not in known:
                parser.error(f"{name!r} is none of {', '.join(known)}")
    return options


if __name__ == "__main__":
    np.seterr(all="raise")
    main()
