"""`interformer plan score`: a run folder comes in; tables on the screen or JSON go out, and a calibrated cluster file if asked for."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from interformer_rec.files import finite
from interformer_rec.planning.score.calibration import calibrate, write_cluster
from interformer_rec.planning.score.measured_file import read_run
from interformer_rec.planning.score.score import STEP, Row, Score, cluster_of, score
from interformer_rec.planning.terminal import grid
from interformer_rec.redaction import redact

MIB = 1 << 20


def score_run(
    run: str, cluster: str | None = None, *, out: str | None = None, as_json: bool = False, trust: bool = False
) -> int:
    """Score and print; 0, also where the prediction failed: the numbers say so.

    `out`: a file for the cluster with measured efficiencies, to be used as --cluster. `trust`: as in `read_run`. Raises InputError.
    """
    read = read_run(run, trust)
    machine, job = cluster_of(read, cluster)
    found = score(read, machine, job)
    if out:
        write_cluster(out, calibrate(found))
    if as_json:
        print(json.dumps(finite(found.to_dict())))
        return 0
    console = Console(width=None if sys.stdout.isatty() else 160)
    show(console, found)
    if out:
        shown = escape(redact(out))
        console.print(f"wrote {shown}; to plan with it: --cluster {shown}")
    return 0


def show(console: Console, found: Score) -> None:
    """Memory of the fullest rank and the error of the worst one, time by stage, verdicts."""
    measured = found.run.measured
    console.print(
        f"[bold]{escape(found.run.place)}[/bold]: {measured.ranks} {measured.device} rank(s), "
        f"{found.placed.problem.batch_size:,} rows a rank. Predicted for {escape(found.job)}"
    )
    console.print(_memory(found))
    rank = measured.by_rank[0]
    whole = [part.memory.process_peak or 0 for part in measured.by_rank]
    console.print(
        f"Measured peak: of {rank.peak_of}. Of the whole run, with evaluations and checkpoints: {max(whole) / MIB:,.0f} MiB, not predicted."
    )
    if found.time:
        steps = len(rank.time.step) if rank.time else 0
        longest = sorted(measured.elements.items(), key=lambda item: -item[1])[:3]
        events = ", ".join(f"{key} {count:.1f}" for key, count in longest)
        console.print(_time(found))
        console.print(
            f"{steps} steps were measured, {sum(rank.rows) // steps:,} rows each on rank 0; ids a row: {escape(events)}"
        )
    else:
        console.print(f"No time: {found.why_no_time}")
    for what, held in found.verdicts.items():
        console.print(f"{what}: " + {True: "[bold]yes[/bold]", False: "[bold]NO[/bold]", None: "not known"}[held])


def _memory(found: Score) -> Table:
    rank = max(range(found.run.measured.ranks), key=lambda r: found.run.measured.by_rank[r].memory.peak or 0)
    heads = ("predicted, MiB", "measured, MiB", "error of the worst rank")
    return _table(found.memory, grid(f"memory of rank {rank}", right=heads), rank, MIB)


def _time(found: Score) -> Table:
    return _table(found.time, grid("stage", right=("predicted, ms", "measured, ms", "error")))


def _table(rows: Sequence[Row], table: Table, rank: int = 0, unit: int = 1) -> Table:
    for row, after in zip(rows, (*rows[1:], None), strict=True):
        measured = f"{row.measured[rank] / unit:,.2f}" if row.measured else "-"
        error = "-" if row.error is None else f"{row.error:+.1%}"
        last = after is not None and after.name == STEP  # a line above the sum
        table.add_row(row.name, f"{row.predicted[rank] / unit:,.2f}", measured, error, end_section=last)
    return table
