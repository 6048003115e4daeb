"""A result file of seq_length, kernels, scaling, embeddings or requests comes in; a PNG goes out. A bare host measures without matplotlib.

python -m benchmarks.harness.plot RESULT.json [--out PATH.png]
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.result_file import read_result
from interformer_rec.errors import InputError

Rows = list[dict[str, Any]]


def seq_length(rows: Rows) -> Figure:
    """Events/s over the longest length, a line for each variant; one picture for each length distribution."""
    rows = [row for row in rows if row.get("mfu") is not None]  # models, not their parts
    names = list(dict.fromkeys(row["distribution"] for row in rows))
    figure, axes = _grid(len(names))
    for axis, name in zip(axes, names, strict=True):
        lines: dict[str, list[tuple[int, float]]] = {}
        for row in rows:
            if row["distribution"] == name:
                label = f"{row['variant']}, {row['preset']} {row['merge']} d{row['d']} x{row['layers']}"
                lines.setdefault(label, []).append((row["longest"], row["events_per_second"]))
        _draw(axis, lines)
        axis.set(title=f"{name} lengths", xlabel="longest history (events)")
    axes[0].set(ylabel="events a second", yscale="log")
    axes[-1].legend(fontsize=7)
    return figure


def kernels(rows: Rows) -> Figure:
    """Times of ours that the others take, step by step, over the longest length; one picture for each shape otherwise."""
    rows = [row for row in rows if row.get("direction") == "step" and row.get("times_ours") and "longest" in row]
    shapes: dict[str, Rows] = {}
    for row in rows:
        fill = f"{row['distribution']} {row['asked_fill']:g}" if row["distribution"] == "zipf" else row["distribution"]
        shapes.setdefault(f"{row['operator']} d{row['d']}/{row['heads']} {row['dtype']}, {fill}", []).append(row)
    if not shapes:
        raise InputError("nothing to draw: no operator over lengths has a time beside ours")
    figure, axes = _grid(len(shapes))
    for axis, (title, found) in zip(axes, shapes.items(), strict=True):
        lines: dict[str, list[tuple[int, float]]] = {}
        for row in found:
            lines.setdefault(row["alternative"], []).append((row["longest"], row["times_ours"]))
        _draw(axis, lines)
        axis.set(xlabel="longest history (events)")
        axis.set_title(title, fontsize=9)
        axis.legend(fontsize=6)
    axes[0].set(ylabel="time of a step, ours = 1", yscale="log")
    return figure


def scaling(rows: Rows) -> Figure:
    """samples/s over ranks, a line for each longest history, and what perfect scaling would be."""
    figure, (axis,) = _grid(1)
    for longest in dict.fromkeys(row.get("longest") for row in rows):
        line = sorted((row["ranks"], row["samples_per_second"]) for row in rows if row.get("longest") == longest)
        label = rows[0]["run"] if longest is None else f"longest {longest}"
        (drawn,) = axis.plot(*zip(*line, strict=True), marker="o", label=label)
        first, rate = line[0]
        ideal = [(ranks, rate * ranks / first) for ranks, _ in line]
        axis.plot(*zip(*ideal, strict=True), linestyle=":", color=drawn.get_color())
    ranks = sorted({row["ranks"] for row in rows})
    axis.set(xscale="log", yscale="log", xlabel="ranks (dotted: perfect)", ylabel="samples a second")
    axis.set_xticks(ranks, labels=[str(count) for count in ranks])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)
    return figure


def embeddings(rows: Rows) -> Figure:
    """Share of the copy bandwidth of a step over the rows' width, a line for each alternative; one picture a table use."""
    rows = [row for row in rows if row["phase"] == "step"]
    names = list(dict.fromkeys((row["kind"], row["pooling"], row["ids"]) for row in rows))
    figure, axes = _grid(len(names))
    for axis, name in zip(axes, names, strict=True):
        lines: dict[str, list[tuple[int, float]]] = {}
        for row in rows:
            if (row["kind"], row["pooling"], row["ids"]) == name:
                lines.setdefault(row["alternative"], []).append((row["dim"], row["of_ceiling"]))
        _draw(axis, lines)
        axis.set_title("{} of {}, {} ids".format(*name), fontsize=9)
        axis.set(xlabel="floats a row")
        axis.legend(fontsize=6)
    axes[0].set(ylabel="bytes that must move / a copy", yscale="log")
    return figure


def requests(rows: Rows) -> Figure:
    """Times as fast as impressions over candidates a request, a line for each longest history; middle halves as bars."""
    figure, (axis,) = _grid(1)
    for longest in dict.fromkeys(row["longest"] for row in rows):
        line = sorted((row for row in rows if row["longest"] == longest), key=lambda row: row["candidates"])
        found = [row["times_faster"] for row in line]
        below = [one["median"] - one["p25"] for one in found]
        above = [one["p75"] - one["median"] for one in found]
        axis.errorbar(
            [row["candidates"] for row in line], [one["median"] for one in found], (below, above), marker="o",
            label=f"histories of up to {longest:,} events",
        )  # fmt: skip
    counts = sorted({row["candidates"] for row in rows})
    axis.axhline(1, color="grey", linestyle=":")
    axis.set(xscale="log", yscale="log", xlabel="candidates a request", ylabel="a step's speed, impressions = 1")
    axis.set_xticks(counts, labels=[str(count) for count in counts])
    ticks = [1, 2, 5, 10, 20, 50]
    axis.set_yticks(ticks, labels=[f"{tick} x" for tick in ticks])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)
    return figure


def _grid(pictures: int) -> tuple[Figure, list[Axes]]:
    columns = min(4, pictures)
    lines = -(-pictures // columns)
    figure = Figure(figsize=(4.2 * columns, 3.6 * lines), layout="tight")
    axes = figure.subplots(lines, columns, sharey=True, squeeze=False).flatten().tolist()
    for empty in axes[pictures:]:
        empty.remove()
    return figure, axes[:pictures]


def _draw(axis: Axes, lines: dict[str, list[tuple[int, float]]]) -> None:
    for label, points in lines.items():
        axis.plot(*zip(*sorted(points), strict=True), marker="o", label=label)
    lengths = sorted({length for points in lines.values() for length, _ in points})
    axis.set(xscale="log")
    axis.set_xticks(lengths, labels=[str(length) for length in lengths])
    axis.minorticks_off()
    axis.grid(alpha=0.3)


DRAWN = {
    "seq_length": seq_length,
    "kernels": kernels,
    "scaling": scaling,
    "embeddings": embeddings,
    "requests": requests,
}


def part_of(result: dict[str, Any], name: str) -> dict[str, Any]:
    """One part of a gpu_suite result as a result of its own. Raises InputError where there is none of this name."""
    headers = {part["part"]: part["result"] for part in result.get("parts", [])}
    if name not in headers:
        raise InputError(f"no part {name!r}; there are {', '.join(headers) or 'none: this is no result of gpu_suite'}")
    return {**headers[name], "cases": [case for case in result["cases"] if case["part"] == name]}


def main() -> int:
    """Read, draw, write; 2 for a file that is no such result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result")
    parser.add_argument("--part")
    parser.add_argument("--out", help="default: the result's path with .png")
    options = parser.parse_args()
    try:
        result = read_result(options.result)
        if options.part:
            result = part_of(result, options.part)
        if result.get("benchmark") not in DRAWN or not result["cases"]:
            raise InputError(
                f"{options.result!r}: no plot for {result.get('benchmark')!r}; there are {', '.join(DRAWN)}"
            )
        figure = DRAWN[result["benchmark"]](result["cases"])
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    path = Path(options.out or Path(options.result).with_suffix(".png"))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
