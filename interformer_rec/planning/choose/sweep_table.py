"""A sweep on the screen. In: its Outcomes; out: rich tables, the cheapest samples first, jobs of unknown price apart."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from interformer_rec.planning.choose.compare import by_price, fewest_devices, in_groups, scaling, without_price
from interformer_rec.planning.terminal import grid
from interformer_rec.planning.what_if import Outcome


def show_sweep(console: Console, outcomes: Sequence[Outcome]) -> None:
    """A row for each job; the cheapest, what scaling loses."""
    priced, unpriced = by_price(outcomes), without_price(outcomes)
    failed = [job for job in outcomes if job.step_ms is None]
    if priced:
        console.print(_table("What if, the cheapest samples first", priced, prices=True))
    if unpriced:
        console.print(_table("What if, of unknown price" if priced else "What if", unpriced, prices=False))
    if grouped := in_groups(outcomes):
        console.print(_grouped(grouped))
    for job in failed if len(failed) < len(outcomes) else []:
        console.print(f"No plan for {_job(job)}: {escape(job.why.split(': ')[-1])}", soft_wrap=True)
    if len(failed) == len(outcomes):
        console.print("None of them fits: " + escape(outcomes[0].why))
        return
    for one in scaling(outcomes):
        console.print(f"{escape(one.text)}.", soft_wrap=True)
    if priced:
        best = priced[0]
        console.print(
            f"Cheapest samples: [bold]{_job(best)}[/bold], {best.price_per_million_samples:,.3g} a million "
            f"({best.price_per_hour:,.2f} an hour)."
        )
    for job in fewest_devices(outcomes):
        console.print(f"Fewest devices of {escape(job.cluster)}: [bold]{_job(job)}[/bold] ({job.ranks} ranks).")
    if len({job.cluster for job in unpriced}) > 1 or (priced and unpriced):
        console.print("Devices of different kinds are not compared without a price: give it with --price NAME=N.")


def _grouped(grouped: Sequence[tuple[Outcome, int | None]]) -> Table:
    numbers = ("nodes", "groups", "rows a rank", "ms a step", "of it an average", "fullest GiB", "faster from every")
    table = grid("cluster", *numbers, right=numbers, title="2D groups, averaged after each step (train has none)")
    for job, every in grouped:
        step = (f"{job.step_ms:.2f}", f"{job.sync_ms:.2f}", f"{job.peak_gib:.2f}")
        pays = "-" if every is None else f"{every} step(s)"
        table.add_row(escape(job.cluster), str(job.nodes), str(job.groups), f"{job.batch_size:,}", *step, pays)
    return table


def _job(job: Outcome) -> str:
    groups = f", {job.groups} groups" if job.groups != 1 else ""
    return f"{job.nodes} x {escape(job.cluster)}, {job.batch_size:,} rows a rank{groups}"


def _table(title: str, jobs: Sequence[Outcome], prices: bool) -> Table:
    numbers = ("nodes", "ranks", "rows a rank", "ms a step", "samples/s", "fullest GiB")
    paid = ("price/h", "price per 10^6 samples") if prices else ()
    table = grid("cluster", *numbers, "most of the step", right=(*numbers, *paid), title=title)
    for job in jobs:
        found = [(job.step_ms, ".2f"), (job.samples_per_second, ",.0f"), (job.peak_gib, ".2f")]
        costs = [(job.price_per_hour, ",.2f"), (job.price_per_million_samples, ",.3g")] if prices else []
        texts = ["-" if value is None else format(value, form) for value, form in (*found, *costs)]
        head = (escape(job.cluster), str(job.nodes), str(job.ranks), f"{job.batch_size:,}")
        table.add_row(*head, *texts[:3], job.bottleneck, *texts[3:])
    return table
