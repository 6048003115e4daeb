"""Curves as inline SVG. In: lists of (x, y); out: an <svg> element that scales and takes its colours from the page.

No pyplot: its figures are global state. Text in a plot is axis titles and ticks only; series are named by the page's
legends, so that no user string reaches Matplotlib (which reads `$` as mathematics and hides names that begin with `_`).
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

SERIES = 6  # colours of the page, --s1 to --s6; further series begin again
SIZE = (4.6, 2.7)  # inches; small, so that 9 pt text stays readable when the page is narrow

# Matplotlib wants real colours: these stand for the page's, which differ between light and dark.
_INK, _GRID = "#010203", "#010204"
_STAND_INS = {_INK: "var(--soft)", _GRID: "var(--line)"}
_STAND_INS |= {f"#0102{16 + index:02x}": f"var(--s{index + 1})" for index in range(SERIES)}
_COLOURS = list(_STAND_INS)[2:]

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "font.family": "sans-serif",
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _GRID,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _GRID,
    "axes.formatter.useoffset": False,
}

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line of a plot."""

    name: str  # for the page's legend
    points: tuple[Point, ...]
    kind: Literal["line", "dots"] = "line"  # dots: few points, joined by a thin line


@functools.lru_cache(maxsize=16)  # a run writes its page before its test and after it: the curves are the same
def curves(
    series: tuple[Series, ...], x: str, y: str, name: str, from_zero: bool = False, percent: bool = False
) -> str:
    """Lines over steps or time; `name` must differ between the plots of a page."""
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure, axes = _axes(x, y)
        for index, one in enumerate(series):
            marker = "o" if one.kind == "dots" or len(one.points) == 1 else ""
            axes.plot(*_columns(one.points), color=_COLOURS[index % SERIES], linewidth=1.2, marker=marker, markersize=4)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
        if percent:
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
        elif from_zero:
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
        if from_zero:
            axes.set_ylim(bottom=0)
        return _svg(figure)


@functools.lru_cache(maxsize=2)
def calibration(series: tuple[Series, ...], name: str) -> str:
    """Observed over predicted rates of bins; on the diagonal they agree."""
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure, axes = _axes("mean prediction of a bin", "mean label")
        top = 1.05 * max((max(point) for one in series for point in one.points), default=1.0) or 1.0
        axes.plot([0, top], [0, top], color=_INK, linewidth=0.8, linestyle=(0, (4, 3)))
        for index, one in enumerate(series):
            axes.plot(*_columns(one.points), color=_COLOURS[index % SERIES], linewidth=1.0, marker="o", markersize=3.5)
        axes.set_xlim(0, top)
        axes.set_ylim(0, top)
        return _svg(figure)


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained")
    figure.patch.set_alpha(0.0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0.0)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(axis="y", linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, pad=6)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    return figure, axes


def _columns(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _short(value: float) -> str:
    """1200 -> 1.2k."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def _svg(figure: Figure) -> str:
    """The <svg> element alone, the same bytes for the same figure."""
    out = io.StringIO()
    FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    for stand_in, colour in _STAND_INS.items():
        svg = svg.replace(stand_in, colour)
    return svg
