"""`interformer plan score`: run folders come in; tables on the screen or JSON go out, and a calibrated cluster file if asked for."""

import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from interformer_rec.files import finite
from interformer_rec.planning.score.calibration import calibrate, write_cluster
from interformer_rec.planning.score.measured_file import read_run
from interformer_rec.planning.score.score import FIXED, STEP, Row, Score, cluster_of, score
from interformer_rec.planning.terminal import grid
from interformer_rec.redaction import redact
from interformer_rec.text import MIB


def score_runs(
    runs: Sequence[str],
    cluster: str | None = None,
    *,
    out: str | None = None,
    as_json: bool = False,
    trust: bool = False,
) -> int:
    """Score and print; 0, also where the prediction failed: the numbers say so.

    `out`: a file for the cluster with measured efficiencies, to be used as --cluster. `trust`: as in `read_run`. Raises InputError.
    """
    read = [read_run(run, trust) for run in runs]
    found = [score(run, *cluster_of(run, cluster)) for run in read]
    calibrated = calibrate(found) if out else None
    if out and calibrated:
        write_cluster(out, calibrated)
    if as_json:
        print(json.dumps(finite({"runs": [one.to_dict() for one in found]})))
        return 0
    console = Console(width=None if sys.stdout.isatty() else 160)
    for one in found:
        show(console, one)
    if len(found) > 1:
        console.print(together(found))
    if out and calibrated and calibrated.calibration:
        shown = escape(redact(out))
        timed = "" if calibrated.calibration.timed else " It says memory alone: no run measured time."
        console.print(f"wrote {shown}; to plan with it: --cluster {shown}.{timed}")
    return 0


def together(found: Sequence[Score]) -> Table:
    """Stages of a step, predicted -> measured ms and the error, a column a run."""
    heads = [f"{one.run.name}, {one.placed.problem.batch_size:,} rows" for one in found]
    table = grid("predicted -> measured, ms", right=[escape(head) for head in heads])
    names = list(dict.fromkeys(row.name for one in found for row in one.time))
    for name in names:
        rows = [one.row(name) if one.has(name) else None for one in found]
        table.add_row(name, *map(_pair, rows), end_section=name == FIXED)
    return table


def _pair(row: Row | None) -> str:
    if row is None or row.measured is None:
        return "-"
    error = "" if row.error is None else f" ({row.error:+.0%})"
    return f"{row.predicted[0]:.3g} -> {row.measured[0]:.3g}{error}"


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
        f"Measured peak: of {rank.peak_of}; of an evaluation: with the checkpoint before it. Of the whole run: {max(whole) / MIB:,.0f} MiB."
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
