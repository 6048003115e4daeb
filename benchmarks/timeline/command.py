"""Continued training against its alternatives, window by window, each window scored before anything of it is trained on.

    python -m benchmarks.timeline --data ml_100k|completejourney|kuairand_pure|synthetic_days [--systems a,b] [--data-dir DIR]
        [--set a.b=c ...] [--decay 1.0] [--every N] [--share S] [--windows N] [--seed 0] [--out DIR] [--json PATH] [--quick]

Systems: continued, frozen, fixed, hashed, retrained (systems.py). --set: a key of every run's config. --decay: what the optimizer state
of the tables is multiplied by when a window begins. --every: a model is retrained for every window (1), for every N-th of the last third,
counted back from the last, or for none (0). --share: of the users. --windows: the first N. --quick: 4 made-up days, which it writes
itself. Everything runs in this process; the result is written after each system.
"""

import argparse
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.harness.machine import facts
from benchmarks.harness.result_file import write_result
from benchmarks.timeline.runs import Judged, Stopped, from_scratch, in_time_order
from benchmarks.timeline.sets import SETS, cut, link
from benchmarks.timeline.summary import last_third, summary
from benchmarks.timeline.systems import SYSTEMS, system_config, tree_of
from interformer_rec.data.recipes import synthetic_days
from interformer_rec.errors import InputError

QUICK = {"partitions": 4, "rows_a_day": 300, "items_a_day": 20, "life": 2, "users": 50, "seed": 0}


def main() -> int:
    """Exit code: 0 fine, 1 stopped by a signal, 2 bad input."""
    try:
        options = parse()
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(options.out or scratch)
            result = Study(options, out).result()
    except InputError as error:
        print(f"timeline: {error}", file=sys.stderr)
        return 2
    except (Stopped, KeyboardInterrupt):
        print("timeline: stopped", file=sys.stderr)
        return 1
    show(result, Console(width=None if sys.stdout.isatty() else 160))
    write_result(options.json, result)
    return 0


def parse() -> argparse.Namespace:
    """The command line. Raises InputError."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="synthetic_days", choices=list(SETS))
    parser.add_argument("--systems", default=",".join(SYSTEMS))
    parser.add_argument("--data-dir")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", dest="changes")
    parser.add_argument("--decay", type=float, default=1.0)
    parser.add_argument("--every", type=int)
    parser.add_argument("--share", type=float)
    parser.add_argument("--windows", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="run folders and windows are kept there; it must be new")
    parser.add_argument("--json", metavar="PATH")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    options.systems = options.systems.split(",")
    for name in options.systems:
        if name not in SYSTEMS:
            raise InputError(f"--systems {name!r} is not one of {', '.join(SYSTEMS)}")
    if "continued" not in options.systems:
        raise InputError("--systems must have continued: the others are compared with it")
    if not 0 < options.decay <= 1:
        raise InputError(f"--decay {options.decay} is not in (0, 1]")
    if options.out and Path(options.out).exists():
        raise InputError(f"--out {options.out!r} is there already: name a new folder")
    if options.quick and (options.data != "synthetic_days" or options.data_dir):
        raise InputError("--quick has made-up days of its own: leave out --data and --data-dir")
    return options


class Study:
    """All systems on one data set."""

    def __init__(self, options: argparse.Namespace, out: Path) -> None:
        """Cuts the windows. Raises InputError."""
        self.options, self.out = options, out
        timeline = SETS[options.data]
        if options.every is not None:
            timeline = replace(timeline, every=options.every)
        if options.share is not None:
            timeline = replace(timeline, share=options.share)
        self.timeline = timeline
        folder = Path(options.data_dir or timeline.folder)
        if options.quick:
            folder = out / "days"
            folder.mkdir(parents=True)
            synthetic_days.write(folder, folder, None, QUICK)
        self.tree = tree_of(timeline, folder)
        self.windows = cut(
            timeline, folder, self.tree["features"]["group"], out / "windows", timeline.share, options.seed
        )
        self.windows = self.windows[: options.windows]
        if len(self.windows) < 3:
            raise InputError(f"{len(self.windows)} windows are too few to compare: three are the least")
        self.found: dict[str, dict[str, Judged]] = {}

    def result(self) -> dict[str, Any]:
        """Run the systems."""
        self._continued()
        for system in ("fixed", "hashed"):
            if system in self.options.systems:
                self._report(system, self._in_order(system, system, self.windows, [])[0])
        if "retrained" in self.options.systems and self.timeline.every:
            self._retrained()
        return self._result()

    def _continued(self) -> None:
        """In two legs: the frozen model is the one between them."""
        middle = len(self.windows) // 2
        before, after = self.windows[:middle], self.windows[middle:]
        later = after if "frozen" in self.options.systems else []
        first, frozen = self._in_order("continued", "continued", before, later)
        second, _ = self._in_order("continued", "continued", after, [], resume=True)
        self._report("continued", {**first, **second})
        if later:
            self._report("frozen", frozen)

    def _in_order(
        self, system: str, name: str, windows: list[Path], later: list[Path], resume: bool = False
    ) -> tuple[dict[str, Judged], dict[str, Judged]]:
        data = link(windows, self.out / "data" / name)
        return in_time_order(self._config(system, name, data), resume, later, self.options.decay)

    def _retrained(self) -> None:
        found = {}
        late = len(self.windows) - len(last_third(self.windows))
        first = 1 if self.timeline.every == 1 else max(1, late)
        for number in range(len(self.windows) - 1, first - 1, -self.timeline.every):
            name = f"retrained-{number}"
            data = link(self.windows[:number], self.out / "data" / name)
            found[self.windows[number].name] = from_scratch(self._config("retrained", name, data), self.windows[number])
            shutil.rmtree(self.out / "runs" / name)
        self._report("retrained", dict(reversed(found.items())))

    def _config(self, system: str, name: str, data: Path) -> Any:
        changes = [f"seed={self.options.seed}", *self.options.changes]
        return system_config(self.tree, self.timeline, system, data, self.out / "runs" / name, changes)

    def _report(self, system: str, judged: dict[str, Judged]) -> None:
        self.found[system] = judged
        write_result(self.options.json, self._result(), done=False)

    def _result(self) -> dict[str, Any]:
        timeline, options = self.timeline, self.options
        return {
            "benchmark": "timeline",
            **facts(torch.device("cpu")),
            "data": options.data,
            "seed": options.seed,
            "share_of_users": timeline.share,
            "retrained_every": timeline.every,
            "decay": options.decay,
            "changes": options.changes,
            "rows": timeline.tables,
            "summary": summary(self.found, [place.name for place in self.windows]),
            "cases": [
                {"system": system, "window": name, **one.row}
                for system, judged in self.found.items()
                for name, one in judged.items()
            ],
        }


def show(result: dict[str, Any], console: Console) -> None:
    """The last third in a table, and the targets."""
    found = result["summary"]
    table = Table(
        "system", "windows", "AUC", "NE", "|calibration - 1|", "continued - it, AUC", "over windows", "over users"
    )
    for system, means in found["means"].items():
        apart = (found["differences"].get(system) or {}).get("auc", {})
        cells = [
            str(means["windows"]),
            *(f"{means.get(name, float('nan')):.4f}" for name in ("auc", "ne", "calibration_error")),
        ]
        spans = [_span(apart.get(name)) for name in ("over_windows", "over_users")]
        table.add_row(system, *cells, f"{apart['mean']:+.4f}" if apart else "", *spans)
    console.print(table)
    for target in found["targets"]:
        met = {None: "not measured", True: "met", False: "missed"}[target["met"]]
        console.print(f"{target['target']}: {target['measured']} ({met})", highlight=False)


def _span(interval: list[float] | None) -> str:
    return f"{interval[0]:+.4f} to {interval[1]:+.4f}" if interval else ""
