"""`interformer plan improve`: a run folder comes in; a better plan for it, its gain and its price go out. No GPU, no process group."""

import json
import sys

from rich.console import Console
from rich.markup import escape

from interformer_rec.files import finite
from interformer_rec.planning import plan_file
from interformer_rec.planning.choose.better import Better, better_plan
from interformer_rec.planning.score.measured_file import read_run
from interformer_rec.planning.score.score import cluster_of
from interformer_rec.redaction import redact
from interformer_rec.text import GIB, size

SMALL = 0.02  # of a step: less than this is not worth a move


def improve_run(
    run: str, cluster: str | None = None, *, out: str | None = None, as_json: bool = False, trust: bool = False
) -> int:
    """Plan again and print; 0, also where nothing is better. `out`: a file for the new plan. Raises InputError."""
    read = read_run(run, trust)
    found = better_plan(read, *cluster_of(read, cluster))
    if out:
        plan_file.write_plan(out, finite(plan_file.to_dict(found.new)))
    if as_json:
        print(json.dumps(finite(found.to_dict())))
        return 0
    console = Console(width=None if sys.stdout.isatty() else 160)
    show(console, found, read.place)
    if out:
        shown = escape(redact(out))
        console.print(
            f"wrote {shown}; to go on with it: train the same config with --resume --set sharding.plan={shown}"
        )
    return 0


def show(console: Console, found: Better, place: str) -> None:
    """Gain, memory, what would move."""
    now, new = found.now, found.new
    problem = now.problem
    console.print(
        f"[bold]{escape(place)}[/bold]: {problem.ranks} ranks, {problem.batch_size:,} rows a rank. Counted for {problem.cluster.name}: "
        f"{now.time.total:.3g} ms a step with its plan, [bold]{new.time.total:.3g} ms with the best found[/bold]"
        f" ({found.gain_ms:.3g} ms, {found.gain_ms / now.time.total:.1%} less)."
    )
    if found.measured_ms is not None:
        console.print(f"The run measured {found.measured_ms:.3g} ms a step.")
    if found.gain_ms < SMALL * now.time.total:
        console.print("That is too little to move tables for.")
    before, after = now.time.items, new.time.items
    for name in sorted(before, key=lambda item: after[item] - before[item]):
        if abs(after[name] - before[name]) >= SMALL / 10 * now.time.total:
            console.print(f"  {name}: {before[name]:.3g} -> {after[name]:.3g} ms")
    if now.exchange != new.exchange:
        console.print(f"Exchange: {now.exchange.text} -> {new.exchange.text}")
    for reason in new.choice.reasons(new.exchange, new.time.total):
        console.print(f"  {reason}.", soft_wrap=True)
    fullest = (float(placed.memory.peak.max()) / GIB for placed in (now, new))
    console.print("Fullest rank: {:.2f} -> {:.2f} GiB.".format(*fullest))
    console.print(
        f"{len(found.moved)} of {len(problem.tables)} tables would move: {size(float(found.arriving.sum()))} in all, "
        f"{size(float(found.arriving.max()))} at most to one rank."
    )
