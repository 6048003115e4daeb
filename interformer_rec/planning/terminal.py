"""A plan on the screen. In: a Placed with its reports, or the rows of a sweep; out: rich tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from interformer_rec.planning.answer import Placed
from interformer_rec.planning.choose.levers import when_tight
from interformer_rec.planning.clock import clock, nothing_shorter
from interformer_rec.planning.cost.evaluation_memory import evaluates, evaluation_memory, evaluation_sentence
from interformer_rec.planning.cost.sizes import by_source
from interformer_rec.planning.cost.traffic import traffic
from interformer_rec.planning.explain import TableReport, what_would_help
from interformer_rec.text import milliseconds, ranges, size

MOMENTS = {"dense_stage": "the start of the dense backward pass", "exchange": "the exchange of vectors"}
DIFFERENT = {  # part of a difference -> its title
    "job": "Job",
    "model": "Tables that only one has, or in another shape",
    "tables": "Tables that lie elsewhere",
    "step": "A step, ms",
    "memory": "Memory",
}
MOST_LINES = 200  # of a part on the screen
SHOWN = 20  # tables on the screen; the JSON has all


def show_plan(
    console: Console, placed: Placed, reports: Sequence[TableReport], explained: Sequence[TableReport]
) -> None:
    """The clock, then what it is made of; `explained`: tables whose rejected options are shown too. The page has the same sections."""
    problem, now = placed.problem, clock(placed)
    console.print(
        f"[bold]{problem.config.name}[/bold] on {problem.nodes} x {problem.cluster.name} ({problem.ranks} ranks), "
        f"{problem.batch_size:,} rows a rank"
    )
    wide = max(map(len, now.texts))
    for name, text in now.texts.items():
        console.print(f"  {name:<{wide}}  [bold]{escape(text)}[/bold]")
    console.print(f"How sure: {now.how_sure}.")
    _head(console, "A step, item by item")
    console.print(_time(placed))
    spread, time = placed.time.by_rank, placed.time
    hidden = float(time.ids.max()) - time.ids_left if time.ids_hidden else 0.0
    console.print(
        f"Tables by rank: {milliseconds(spread.min())} to {milliseconds(spread.max())}, mean {milliseconds(spread.mean())}. "
        f"Hidden behind compute: ids {milliseconds(hidden)}, all-reduce {milliseconds(time.all_reduce.total - time.reduce_left)}."
    )
    _head(console, "Memory of a rank")
    rank = int(placed.memory.peak.argmax())
    console.print(
        f"Rank {rank} is the fullest: [bold]{size(placed.memory.peak[rank])}[/bold] of the {size(problem.usable)} to use, at "
        f"{MOMENTS[placed.memory.moment]}. A device has {size(placed.memory.capacity)}; the rest is kept free."
    )
    console.print(_memory(placed))
    if tight := when_tight(placed):
        share = float(placed.memory.peak.max()) / problem.usable
        console.print(f"That is {share:.0%} of what may be used. With the tables where they are, less memory costs:")
        for lever in tight:
            console.print(f"- {escape(lever.text(problem.batch_size * problem.ranks, placed))}", soft_wrap=True)
    if evaluates(problem.config):
        peak = np.sum(list(evaluation_memory(problem, placed.options, placed.memory).values()), axis=0)
        console.print(f"{evaluation_sentence(peak, problem.usable, problem.config.data.eval_batch_size)}.")
    _head(console, "What would change it")
    _changes(console, placed)
    _head(console, "Tables")
    console.print(_tables(reports))
    if len(reports) > SHOWN:
        console.print(f"These are the {SHOWN} costliest of {len(reports)} tables.")
    for note in problem.notes:
        console.print(f"[yellow]note[/yellow]: {escape(note)}", soft_wrap=True)
    for report in explained:
        console.print(_rejected(report))
    _head(console, "Between hosts")
    _show_sent(console, placed)
    _head(console, "Assumptions and sources")
    _sources(console, placed)


def _head(console: Console, title: str) -> None:
    console.print(f"\n[bold]{title}[/bold]")


def _memory(placed: Placed) -> Table:
    memory = placed.memory
    rank, moment = int(memory.peak.argmax()), memory.moment
    table = grid("item", right=(f"rank {rank}", "mean", "least"))
    items = {**memory.always, **getattr(memory, moment)}
    if memory.host.max() > 0:
        items["host memory"] = memory.host
    for name, values in items.items():
        if values.max() >= 2**16:
            table.add_row(name, *(size(value) for value in (values[rank], values.mean(), values.min())))
    return table


def _time(placed: Placed) -> Table:
    time = placed.time
    table = grid("item", right=("time", "share"))
    for name, ms in time.items.items():
        table.add_row(name, milliseconds(ms), f"{ms / time.total:.0%}")
    return table


def _tables(reports: Sequence[TableReport]) -> Table:
    names = ("table", "rows", "dim", "ids a row", "sharding", "kernel", "ranks", "memory", "time over ranks")
    table = grid(*names, right=("rows", "dim", "ids a row", "memory", "time over ranks"))
    for report in reports[:SHOWN]:
        table.add_row(
            escape(report.name),
            f"{report.rows:,}",
            str(report.dim),
            f"{report.ids_per_row:.2f}",
            report.sharding,
            report.kernel,
            ranges(report.ranks, most=6),
            size(report.device_bytes + report.host_bytes),
            milliseconds(report.ms),
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


def _show_sent(console: Console, placed: Placed) -> None:
    sent, nodes = traffic(placed.problem, placed.options), placed.problem.nodes
    every = sent.sent()
    console.print(
        f"A rank sends {size(float(every.mean()))} of vectors, gradients and ids a step in mean, {size(float(every.max()))} at most."
    )
    if nodes == 1:
        console.print("There is one host: nothing travels between hosts.")
        return
    hosts = sent.hosts
    most = int(np.sum(list(hosts.values()), axis=0).argmax())
    table = grid("a host sends to others", right=(f"host {most}, most", "mean"))
    for name, values in hosts.items():
        table.add_row(name, size(float(values[most])), size(float(values.mean())))
    console.print(table)


def _changes(console: Console, placed: Placed) -> None:
    total = placed.time.total
    for what, ms in sorted(what_would_help(placed).items(), key=lambda change: change[1]):
        console.print(f"- {what}: {milliseconds(ms)} a step ({1 - ms / total:.0%} less)")
    console.print(
        f"- other places of the tables: {nothing_shorter(total, placed.step_bound)}; tables take {milliseconds(placed.perf)} of "
        f"a step (searched for {placed.seconds:.1f} s)"
    )
    console.print(f"- the exchange is {placed.exchange.text}", soft_wrap=True)
    for reason in placed.choice.reasons(placed.exchange, total):
        console.print(f"- {reason}", soft_wrap=True)


def _sources(console: Console, placed: Placed) -> None:
    efficiency = placed.problem.cluster.efficiency
    console.print(
        f"{escape(placed.problem.cluster.origin)}: {_share(efficiency.memory)} of memory bandwidth, "
        f"{_share(efficiency.links)} of link bandwidth, {_share(efficiency.matmul)} of the matmul rate, "
        f"{efficiency.launch_us:.3g} us to start an operator."
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


def show_diff(console: Console, difference: Mapping[str, Any], first: str, second: str) -> None:
    """What difference.diff found."""
    if not any(difference.values()):
        console.print(f"{escape(first)} and {escape(second)} are the same plan")
        return
    if difference["unrelated"]:
        console.print(
            f"{escape(first)} and {escape(second)} are plans of unrelated models: no table has the same name, rows and dim in both. "
            "Only job, step and memory are compared."
        )
    for part in DIFFERENT:
        pairs = difference[part]
        if not pairs:
            continue
        table = grid("", escape(first), escape(second), right=(), title=DIFFERENT[part])
        for name, (before, after) in list(pairs.items())[:MOST_LINES]:
            table.add_row(escape(str(name)), *(_cell(value, part) for value in (before, after)))
        console.print(table)
        if len(pairs) > MOST_LINES:
            console.print(f"... and {len(pairs) - MOST_LINES} more; --json prints all")


def _cell(value: Any, part: str) -> str:
    if part == "memory" and value != "-":
        return size(value)
    return f"{value:,.4g}" if isinstance(value, float) else escape(str(value))
