"""Each operator against its reference, torch's ways (padded, compiled, flex, varlen, nested, grouped) and FBGEMM's, in one run.

    python -m benchmarks.kernels [--operators attention,ffn] [--lengths 64,256,1024] [--distributions zipf] [--fill 0.25,0.5]
        [--d 32,64] [--heads 2] [--rank 16] [--dtypes fp32] [--tokens 16384] [--without compiled] [--device cpu]
        [--threads 1] [--rounds 7] [--json PATH]

Before timing, outputs and all gradients are compared with the reference in float64: an alternative that differs has an error in
the place of a number, and the exit code is 1. Alternatives take turns; `x ours` is how many times as long as ours they take, in
turns of the same round. `forward` has no gradients, `step` has all of them. A padded alternative is given padded inputs before the
clock starts, the FBGEMM ones pad inside it. TFLOP/s count matrix products on real tokens (a step: three times the forward's), GB/s each
input once and each output once; `of ceiling` is the share of the matrix product or copy measured in this run that the
operator is nearer to. On CUDA a turn is as many calls as take about 10 ms. `benchmarks.harness.plot` draws the JSON. Needs torch, numpy,
pydantic and rich; triton on CUDA.
"""

import argparse
import functools
import itertools
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import lengths as length_distributions
from benchmarks.harness.interleaved import Times, measure
from benchmarks.harness.machine import facts
from benchmarks.harness.result_file import write_result
from benchmarks.kernels import attention as kernel_attention
from benchmarks.kernels import jagged as kernel_jagged
from benchmarks.kernels import rows as kernel_rows
from benchmarks.kernels.case import DTYPES, Case, Ready, Shape
from interformer_rec.benchmarking.machine import copy_bandwidth, matmul_ceiling

OPERATORS: dict[str, Callable[[Shape], Case]] = {
    "attention": kernel_attention.attention,
    "attention_rotary": kernel_attention.attention_rotary,
    "pool": kernel_jagged.pool,
    "ffn": kernel_jagged.ffn,
    "prepend": kernel_jagged.prepend,
    "summary": kernel_jagged.summary,
    "norm": kernel_rows.norm,
    "gate": kernel_rows.gate,
    "gram": kernel_rows.gram,
}
ROW_OPERATORS = ("norm", "gate", "gram")  # no lengths: one case a width
TURN_SECONDS = 0.01
SMALL, SMALL_SAMPLES = 8192, 256  # rows and samples up to which the reference, a loop over samples, is timed

Row = dict[str, Any]


def measure_case(operator: str, shape: Shape, options: argparse.Namespace, ceilings: dict[str, float]) -> list[Row]:
    """A row an alternative and direction."""
    case = OPERATORS[operator](shape)
    what = {
        "operator": operator,
        "d": shape.d,
        "heads": shape.heads,
        "rank": shape.rank,
        "dtype": options.names[shape.dtype],
    }
    if operator not in ROW_OPERATORS:
        what |= {"longest": shape.longest, "distribution": shape.distribution, "asked_fill": shape.fill}
        what["fill"] = float(shape.lengths.double().mean()) / shape.longest
    what |= {"rows": shape.tokens if operator in ROW_OPERATORS else shape.layout.total, "bound": case.bound}
    ready, rows = prepare(case, options.without)
    rows = [{**what, **row} for row in rows]
    for direction, flops, size in (
        ("forward", case.flops, case.bytes_forward),
        ("step", 3 * case.flops, case.bytes_step),
    ):
        times = timed({name: getattr(one, direction) for name, one in ready.items()}, shape.device, options)
        for name, taken in times.items():
            rate = {"matmul": flops, "copy": size}[case.bound] / taken.median
            row = {**what, "alternative": name, "direction": direction, **taken.to_dict()}
            row |= {"tflops": flops / taken.median / 1e12, "gb_per_second": size / taken.median / 1e9}
            against = taken.ratio(times["ours"])["median"] if "ours" in times else None
            row |= {"of_ceiling": rate / ceilings[case.bound], "times_ours": None if against is None else 1 / against}
            rows.append(row)
    return rows


def prepare(case: Case, without: list[str]) -> tuple[dict[str, Ready], list[Row]]:
    """The alternatives that run and are right, and a row with an error for each of the others."""
    makers = dict(case.alternatives)
    if len(case.pieces) <= SMALL_SAMPLES and sum(len(x) for x in case.leaves[:1]) <= SMALL:
        makers["reference"] = case.looped
    ready, errors = {}, []
    for name, make in makers.items():
        if any(part in name for part in without):
            continue
        try:
            one = Ready(case, make())
            problem = one.wrong()
        except Exception as error:  # another library's refusal is a result here, not the end of the run
            errors.append(
                {"alternative": name, "error": f"cannot run: {type(error).__name__}: {str(error).strip()[:300]}"}
            )
            continue
        if problem is None:
            ready[name] = one
        else:
            errors.append({"alternative": name, "error": f"wrong: {problem}"})
    return ready, errors


def timed(work: dict[str, Callable[[], object]], device: torch.device, options: argparse.Namespace) -> dict[str, Times]:
    """Seconds a call, in turns; on CUDA a turn is many calls, so that the host's part hides behind the device's."""
    if device.type != "cuda":
        return measure(work, options.rounds, device=device, seconds=options.case_seconds)
    calls = {name: _calls(run, device) for name, run in work.items()}
    turns = {name: functools.partial(_repeat, run, calls[name]) for name, run in work.items()}
    times = measure(turns, options.rounds, device=device, seconds=options.case_seconds)
    return {name: Times([taken / calls[name] for taken in found.seconds]) for name, found in times.items()}


def _repeat(run: Callable[[], object], calls: int) -> None:
    for _ in range(calls):
        run()


def _calls(run: Callable[[], object], device: torch.device) -> int:
    run()
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    torch.cuda.synchronize(device)
    return max(1, min(100, round(TURN_SECONDS / max(1e-6, time.perf_counter() - start))))


def shapes(options: argparse.Namespace) -> list[tuple[str, Shape]]:
    """All combinations; operators that know no lengths once a width."""
    found = []
    drawn = [
        (longest, distribution, fill)
        for longest, distribution in itertools.product(options.lengths, options.distributions)
        for fill in (options.fill if distribution == "zipf" else options.fill[:1])  # the others have the fill they have
    ]
    for dtype, d, heads, operator in itertools.product(options.dtypes, options.d, options.heads, options.operators):
        of_rows = operator in ROW_OPERATORS
        tokens, rank = options.rows if of_rows else options.tokens, min(options.rank or d, d)
        for lengths in drawn[:1] if of_rows else drawn:
            found.append(
                (operator, Shape(tokens, *lengths, d, heads, rank, DTYPES[dtype], torch.device(options.device)))
            )
    return found


def table(rows: list[Row]) -> Table:
    """For the terminal."""
    shown = Table(box=None, header_style="bold")
    names = ["operator", "d", "longest", "fill", "alternative", "", "P50 ms", "TFLOP/s", "GB/s", "of ceiling", "x ours"]
    for name in names:
        shown.add_column(name, justify="left" if name in ("operator", "alternative", "") else "right")
    for row in rows:
        what = [f"{row['operator']} {row['dtype']}", f"{row['d']}/{row['heads']}", str(row.get("longest", ""))]
        what.append(f"{row['fill']:.2f}" if "fill" in row else "")
        if "error" in row:
            shown.add_row(*what, row["alternative"], row["error"], style="red")
            continue
        ratio = "" if row["times_ours"] is None else f"{row['times_ours']:.2f}"
        shown.add_row(
            *what, row["alternative"], row["direction"], f"{row['p50_ms']:.3f}", f"{row['tflops']:.3g}" if row["tflops"] else "",
            f"{row['gb_per_second']:.1f}", f"{row['of_ceiling']:.0%} {row['bound']}", ratio,
        )  # fmt: skip
    return shown


def main() -> int:
    """Parse, check, measure, print, write; 1 if an alternative gave wrong numbers or ours could not run."""
    options = parse()
    torch.set_num_threads(options.threads or torch.get_num_threads())
    device = torch.device(options.device)
    console = Console(width=None if sys.stdout.isatty() else 160)
    products = {name: matmul_ceiling(device, DTYPES[name]) for name in options.dtypes}
    copies = copy_bandwidth(device)
    ceilings = ", ".join(f"{name} {rate / 1e12:.3f} TFLOP/s" for name, rate in products.items())
    console.print(f"ceilings: matrix product {ceilings}; copy {copies / 1e9:.1f} GB/s")
    result: dict[str, Any] = {"benchmark": "kernels", **facts(device)}
    result |= {"copy_gb_per_second": copies / 1e9, "ceiling_flops": products, "cases": []}
    for operator, shape in shapes(options):
        torch.compiler.reset()
        found = measure_case(operator, shape, options, {"matmul": products[options.names[shape.dtype]], "copy": copies})
        result["cases"] += found
        write_result(options.json, result, done=False)
        console.print(f"{operator} d {shape.d}, longest {shape.longest}: {len(found)} rows", style="dim")
        if device.type == "cuda":
            torch.cuda.empty_cache()
    rows = result["cases"]
    console.print(table(rows))
    write_result(options.json, result)
    bad = [
        row
        for row in rows
        if row.get("error", "").startswith("wrong") or (row["alternative"] == "ours" and "error" in row)
    ]
    for row in bad:
        print(f"{row['operator']} d {row['d']}, {row['alternative']}: {row['error']}", file=sys.stderr)
    return 1 if bad else 0


def parse() -> argparse.Namespace:
    """Options; ends with a message for a name that does not exist."""

    def listed(kind: Any) -> Any:
        return lambda text: [kind(part.strip()) for part in text.split(",") if part.strip()]

    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operators", type=listed(str), default=list(OPERATORS))
    parser.add_argument("--lengths", type=listed(int), default=[64, 256, 1024] if cuda else [64, 256])
    parser.add_argument("--distributions", type=listed(str), default=["zipf"])
    parser.add_argument("--fill", type=listed(float), default=[0.25], help="of zipf lengths, at most 0.5")
    parser.add_argument("--d", type=listed(int), default=[128, 256] if cuda else [32])
    parser.add_argument("--heads", type=listed(int), default=[2])
    parser.add_argument("--rank", type=int, default=0, help="inner width of the per-sample FFN; 0: d")
    parser.add_argument("--dtypes", type=listed(str), default=["bf16"] if cuda else ["fp32"])
    parser.add_argument("--tokens", type=int, default=131_072 if cuda else 8192, help="of a case, all samples together")
    parser.add_argument("--rows", type=int, default=524_288 if cuda else 65_536, help="of norm, gate and gram")
    parser.add_argument(
        "--without", type=listed(str), default=[], help="leave out alternatives with one of these in their name"
    )
    parser.add_argument("--device", default="cuda" if cuda else "cpu")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--case-seconds", type=float, default=20.0, help="a case's turns end after 3 rounds once this has passed"
    )
    parser.add_argument("--json")
    options = parser.parse_args()
    known_names = (OPERATORS, DTYPES, length_distributions.DISTRIBUTIONS)
    for given, known in zip((options.operators, options.dtypes, options.distributions), known_names, strict=True):
        for name in given:
            if name not in known:
                parser.error(f"{name!r} is none of {', '.join(known)}")
    options.names = {dtype: name for name, dtype in DTYPES.items()}
    return options
