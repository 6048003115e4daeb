"""A study's result for people. In: the dict of study.py; out: a table on the screen, quality.md, plots.

python -m benchmarks.quality.report RESULT.json --out PICTURE.png       # the plot of a result that is kept
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot, ticker
from rich.console import Console
from rich.table import Table

from benchmarks.quality.known import read_study
from interformer_rec.errors import InputError

NOISE = 0.01  # of a mean AUC on shuffled labels; its standard error over 30,000 rows is 0.0033
COLUMNS = (
    "system",
    "AUC",
    "GAUC",
    "logloss",
    "NE",
    "calibration",
    "dense weights",
    "table weights",
    "MFLOP a sample",
    "training rows/s",
    "AUC, InterFormer minus it",
)


def show(result: dict[str, Any], console: Console) -> None:
    """Print the table and what the comparison with the best other system says."""
    table = Table(title=title(result), title_justify="left")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "system" else "right")
    for cells in table_rows(result):
        table.add_row(*cells)
    console.print(table)
    for line in verdict(result):
        console.print(line, soft_wrap=True)


def markdown(result: dict[str, Any]) -> str:
    """The same as a Markdown table."""
    lines = [list(COLUMNS), ["---", *["--:"] * (len(COLUMNS) - 1)], *table_rows(result)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return "\n\n".join([title(result), table, "\n".join(verdict(result))]) + "\n"


def title(result: dict[str, Any]) -> str:
    """Data, seeds and budget."""
    tuned = f"{result['budget']} trials each" if result["budget"] else "fixed recipes"
    labels = ", labels shuffled" if result["shuffled"] else ""
    seeds = f"{len(result['seeds'])} seed{'s' if len(result['seeds']) > 1 else ''}"
    return f"{result['data']}, test rows: {seeds}, {tuned}, best of {result['epochs']} epoch(s){labels}"


def table_rows(result: dict[str, Any]) -> list[list[str]]:
    """Cells of every system, the highest AUC first."""
    rows = []
    for system in sorted(result["systems"], key=lambda row: -row["auc"]["mean"]):
        difference = result.get("differences", {}).get(system["name"])
        rate = system["trained_rows_per_second"]
        rows.append(
            [
                system["name"] + (" *" if system["own_features"] else ""),
                *(spread(system.get(name)) for name in ("auc", "gauc", "logloss", "ne")),
                spread(system["calibration"], 3),
                f"{system['dense_parameters']:,}",
                f"{system['table_parameters']:,}",
                f"{system['flops'] / 1e6:.3g}",
                f"{rate:,.0f}" if rate else "-",
                interval(difference["auc"]) if difference else "-",
            ]
        )
    return rows


def learned_from_noise(result: dict[str, Any]) -> list[str]:
    """Systems whose AUC on shuffled labels is not that of a coin: their inputs know the label."""
    return [row["name"] for row in result["systems"] if result["shuffled"] and abs(row["auc"]["mean"] - 0.5) > NOISE]


def verdict(result: dict[str, Any]) -> list[str]:
    """InterFormer against the best of the others, metric by metric; of a shuffled run, whether somebody learned."""
    if result["shuffled"]:
        learned = ", ".join(learned_from_noise(result))
        return [f"AUC 0.5 ± {NOISE} on shuffled labels: " + (f"NOT so for {learned}: a leak" if learned else "all")]
    if "best" not in result:
        return []
    lines = [f"InterFormer minus {result['best']}, the best other by mean test AUC:"]
    for metric, difference in result["differences"][result["best"]].items():
        if metric == "calibration":
            continue  # best at 1, so a difference says nothing
        lines.append(f"- {metric} {interval(difference)}")
    if any(system["own_features"] for system in result["systems"]):
        lines.append("Systems with * read fewer or longer histories than the others.")
    return lines


def spread(value: dict[str, float | None] | None, digits: int = 4) -> str:
    """Mean ± standard deviation; - of nothing."""
    if value is None:
        return "-"
    return f"{value['mean']:.{digits}f}" + (f" ± {value['std']:.{digits}f}" if value["std"] is not None else "")


def interval(difference: dict[str, Any]) -> str:
    """A difference with its intervals over seeds and over users."""
    parts = [f"{difference['mean']:+.4f}"]
    for name, values in (("seeds", difference["over_seeds"]), ("users", difference["over_users"])):
        if values is not None:
            parts.append(f"[{values[0]:+.4f}, {values[1]:+.4f}] {name}")
    return " ".join(parts)


def plot(result: dict[str, Any], path: Path) -> None:
    """AUC against FLOPs a sample and, where it was measured, against training rows/s; a curve for each scaling family."""
    matplotlib.use("Agg")
    axes_of = [("flops", 1e6, "MFLOP a sample, forward")]
    if any(system["trained_rows_per_second"] for system in result["systems"]):
        axes_of.append(("trained_rows_per_second", 1, "training rows/s"))
    figure, axes = pyplot.subplots(1, len(axes_of), figsize=(6.4 * len(axes_of), 4.4), squeeze=False)
    colors = {family: f"C{number % 10}" for number, family in enumerate(_families(result["systems"]), start=4)}
    for axis, (key, unit, label) in zip(axes[0], axes_of, strict=True):
        shown = [system for system in result["systems"] if system[key]]
        wide = max(system[key] for system in shown) / min(system[key] for system in shown)
        for system in shown:
            other = "tab:red" if system["kind"] == "interformer" else "tab:blue"
            color = colors.get(_family(system["name"]), other)
            spread, place = system["auc"]["std"] or 0.0, (system[key] / unit, system["auc"]["mean"])
            axis.errorbar(*place, yerr=spread, fmt="o", color=color, markersize=4, elinewidth=0.8)
            beside = (3, -9) if system["name"] == "interformer" else (3, 3)  # it is a point of every curve
            axis.annotate(system["name"], place, fontsize=7, xytext=beside, textcoords="offset points")
        for family, color in colors.items():
            curve = [s for s in shown if s["name"] == "interformer" or _family(s["name"]) == family]
            points = [(system[key] / unit, system["auc"]["mean"]) for system in curve]
            axis.plot(*zip(*sorted(points), strict=True), color=color, linewidth=0.9, label=family)
        axis.set(xscale="log", xlabel=label, ylabel="test AUC")
        axis.xaxis.set(
            major_locator=ticker.LogLocator(subs=(1, 2, 5) if wide < 1000 else (1,)),
            major_formatter=ticker.StrMethodFormatter("{x:g}"),
            minor_locator=ticker.NullLocator(),
        )
        axis.grid(alpha=0.3)
        if colors:
            axis.legend(fontsize=7)
    figure.suptitle(title(result), fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _family(name: str) -> str | None:
    """`layers` of layers-3; None of a name without a number."""
    family, _, number = name.rpartition("-")
    return family if family and number.isdigit() else None


def _families(systems: list[dict[str, Any]]) -> list[str]:
    """In order of appearance; InterFormer itself is a point of each."""
    found = dict.fromkeys(_family(system["name"]) for system in systems)
    return [family for family in found if family is not None]


def main() -> int:
    """Read, draw, write; 2 for a file that is no result of a study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result")
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    try:
        result = read_study(options.result)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    plot(result, Path(options.out))
    print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
