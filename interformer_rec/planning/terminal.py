"""A plan on the screen. In: a Placed with its reports, or the rows of a sweep; out: rich tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from interformer_rec.planning.answer import Placed
from interformer_rec.planning.cost.cluster import GIB
from interformer_rec.planning.cost.sizes import by_source
from interformer_rec.planning.explain import TableReport, what_would_help
from interformer_rec.planning.what_if import Change, Outcome, cheapest
from interformer_rec.text import ranges

SHOWN = 20  # tables on the screen; the JSON has all


def show_plan(
    console: Console, placed: Placed, reports: Sequence[TableReport], explained: Sequence[TableReport]
) -> None:
    """Job, memory of the fullest rank, time of a step, tables; `explained`: those whose rejected options are shown too."""
    problem = placed.problem
    console.print(
        f"[bold]{problem.config.name}[/bold] on {problem.nodes} x {problem.cluster.name} ({problem.ranks} ranks), "
        f"{problem.batch_size:,} rows a rank: [bold]{placed.time.total:.2f} ms a step, {placed.samples_per_second:,.0f} samples/s[/bold]"
    )
    rank = int(placed.memory.peak.argmax())
    stage = {"dense_stage": "the start of the dense backward pass", "exchange": "the exchange of vectors"}[
        placed.memory.moment
    ]
    console.print(
        f"\nMemory of rank {rank}, the fullest: [bold]{placed.memory.peak[rank] / GIB:.2f} of "
        f"{placed.memory.capacity / GIB:.1f} GiB[/bold] at {stage}"
    )
    console.print(_memory(placed))
    time = placed.time
    console.print(f"A step: [bold]{time.total:.2f} ms[/bold], most of it {time.bottleneck}")
    console.print(_time(placed))
    spread = time.lookup + time.update
    console.print(
        f"Lookup and update by rank: {spread.min():.3f} to {spread.max():.3f} ms, mean {spread.mean():.3f}. Hidden behind compute: "
        f"ids {time.ids.total - time.ids_left:.3f} ms, all-reduce {time.all_reduce.total - time.reduce_left:.3f} ms.\n"
    )
    console.print(f"The {SHOWN} costliest of {len(reports)} tables" if len(reports) > SHOWN else "Tables")
    console.print(_tables(reports))
    for note in problem.notes:
        console.print(f"[yellow]note[/yellow]: {escape(note)}", soft_wrap=True)
    for report in explained:
        console.print(_rejected(report))
    _sentences(console, placed)


def _memory(placed: Placed) -> Table:
    memory = placed.memory
    rank, moment = int(memory.peak.argmax()), memory.moment
    table = grid("item", right=("this rank, MiB", "mean, MiB", "least, MiB"))
    items = {**memory.always, **getattr(memory, moment)}
    for name, values in items.items():
        if values.max() >= 2**16:
            table.add_row(name, *(f"{value / 2**20:,.1f}" for value in (values[rank], values.mean(), values.min())))
    table.add_row("kept free", *[f"{(memory.capacity - placed.problem.usable) / 2**20:,.1f}"] * 3)
    if memory.host.max() > 0:
        host = memory.host / 2**20
        table.add_row("host memory", f"{host[rank]:,.1f}", f"{host.mean():,.1f}", f"{host.min():,.1f}")
    return table


def _time(placed: Placed) -> Table:
    time = placed.time
    table = grid("item", right=("ms", "share"))
    for name, ms in time.items.items():
        table.add_row(name, f"{ms:.3f}", f"{ms / time.total:.0%}")
    return table


def _tables(reports: Sequence[TableReport]) -> Table:
    names = ("table", "rows", "dim", "ids a row", "sharding", "kernel", "ranks", "GiB", "ms over ranks")
    table = grid(*names, right=("rows", "dim", "ids a row", "GiB", "ms over ranks"))
    for report in reports[:SHOWN]:
        table.add_row(
            escape(report.name),
            f"{report.rows:,}",
            str(report.dim),
            f"{report.ids_per_row:.2f}",
            report.sharding,
            report.kernel,
            ranges(report.ranks, most=6),
            f"{(report.device_bytes + report.host_bytes) / GIB:.3f}",
            f"{report.ms:.3f}",
        )
    return table


def _rejected(report: TableReport) -> Table:
    where = f" (on {report.kept_on} only)" if report.kept_on else ""
    table = Table(
        title=f"Why {escape(report.name)} is {report.sharding}, {report.kernel}{where}",
        title_justify="left",
        show_header=False,
    )
    for option in report.rejected:
        table.add_row(option.sharding, option.kernel, escape(option.reason))
    return table


def _sentences(console: Console, placed: Placed) -> None:
    for what, ms in what_would_help(placed).items():
        console.print(f"With {what}: {ms:.2f} ms a step ({1 - ms / placed.time.total:.0%} less).")
    gap = placed.perf / placed.bound - 1 if placed.bound > 0 else 0.0
    proof = "proven best" if gap < 1e-6 else f"within {gap:.1%} of the bound"
    console.print(
        f"By TorchRec's estimate the slowest rank takes {placed.perf:.4g} ms for its tables: {proof}. Search: {placed.seconds:.1f} s."
    )
    efficiency, calibration = placed.problem.cluster.efficiency, placed.problem.cluster.calibration
    origin = f"Measured by {escape(calibration.run)}, {calibration.date}" if calibration else "Assumed, not measured"
    console.print(
        f"{origin}: {_share(efficiency.memory)} of memory bandwidth, {_share(efficiency.links)} of link bandwidth, "
        f"{_share(efficiency.matmul)} of the matmul rate, {efficiency.launch_us:.3g} us to start an operator."
    )
    for source, whats in by_source(placed.problem.sizes.sources).items():
        named = ", ".join(whats[:4]) + (f" and {len(whats) - 4} more" if len(whats) > 4 else "")
        console.print(f"Sizes: {escape(named)} ({escape(source)}).")


def _share(value: float) -> str:
    return f"{value:.0%}" if value >= 0.1 else f"{value:.2g}"


def grid(*names: str, right: Sequence[str], title: str | None = None) -> Table:
    """A table with these columns; those of `right` hold numbers, and come last where `names` has not got them."""
    table = Table(title=title, title_justify="left")
    for name in (*names, *(name for name in right if name not in names)):
        table.add_column(name, justify="right" if name in right else "left")
    return table


def show_sweep(console: Console, outcomes: Sequence[Outcome]) -> None:
    """One row a job, and the cheapest that fits."""
    numbers = ("nodes", "ranks", "rows a rank", "ms a step", "samples/s", "fullest GiB")
    prices = ("price/h", "price per 10^9 samples") if any(o.price_per_hour is not None for o in outcomes) else ()
    table = grid("cluster", *numbers, "most of the step", right=(*numbers, *prices), title="What if")
    for o in outcomes:
        fits = o.step_ms is not None
        found = [(o.step_ms, ".2f"), (o.samples_per_second, ",.0f"), (o.peak_gib, ".2f")]
        paid = [(o.price_per_hour if fits else None, ",.2f"), (o.price_per_billion_samples, ",.2f")][: len(prices)]
        texts = ["-" if value is None else format(value, form) for value, form in (*found, *paid)]
        head = (o.cluster, str(o.nodes), str(o.ranks), f"{o.batch_size:,}")
        table.add_row(*head, *texts[:3], o.bottleneck if fits else "does not fit", *texts[3:])
    console.print(table)
    best = cheapest(outcomes)
    if best is None:
        console.print("None of them fits: " + escape(outcomes[0].why))
        return
    by = f"{best.price_per_hour:,.2f} an hour" if best.price_per_hour is not None else f"{best.ranks} ranks"
    console.print(
        f"Cheapest that fits: [bold]{best.nodes} x {best.cluster}, {best.batch_size:,} rows a rank[/bold] ({by})."
    )


def change_text(change: Change) -> str:
    """'use 4 nodes ...: 12.3 ms a step, 61.2 GiB on the fullest rank'."""
    placed = change.placed
    return f"{change.what}: {placed.time.total:.1f} ms a step, {float(np.max(placed.memory.peak)) / GIB:.1f} GiB on the fullest rank"


def show_diff(console: Console, difference: Mapping[str, Mapping[str, Any]], first: str, second: str) -> None:
    """What plan_file.diff found."""
    if not any(difference.values()):
        console.print(f"{escape(first)} and {escape(second)} are the same plan")
        return
    for part, pairs in difference.items():
        if not pairs:
            continue
        table = grid("", escape(first), escape(second), right=(), title=part)
        for name, (before, after) in list(pairs.items())[:200]:
            table.add_row(escape(str(name)), _cell(before), _cell(after))
        console.print(table)


def _cell(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else escape(str(value))
