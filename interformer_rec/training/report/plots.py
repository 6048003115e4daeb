"""Curves as inline SVG. In: lists of (x, y); out: an <svg> element that scales and takes its colours and font from the page.

Text in a plot is axis titles and ticks only; series are named by the page's legends, so no user string reaches a plot.
Lengths are in the units of the viewBox, which are about points.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Literal

SERIES = 6  # colours of the page, --s1 to --s6; further series begin again
WIDTH, HEIGHT, FONT = 331, 194, 9  # small, so that the text stays readable when the page is narrow
TOP, RIGHT, BOTTOM = 8, 12, 32
DIGIT = 0.57 * FONT  # width of one, in most fonts
MARGIN = 0.05  # of the range of the values, on each side
LARGEST = 1e300  # a value beyond it is drawn as this one: differences stay finite

Point = tuple[float, float]
Text = Callable[[float, int], str]  # of a tick: its value, and the decimals that tell it from the next


@dataclass(frozen=True)
class Series:
    """One line of a plot."""

    name: str  # for the page's legend
    points: tuple[Point, ...]
    kind: Literal["line", "dots"] = "line"  # dots: few points, joined by a thin line


def curves(series: Sequence[Series], x: str, y: str, from_zero: bool = False, percent: bool = False) -> str:
    """Lines over steps or time."""
    points = [point for one in series for point in one.points]
    across, up = _range([x for x, _ in points]), _range([y for _, y in points])
    if from_zero:
        up = (0.0, up[1] if up[1] > 0 else 1.0)
    shown = _percent if percent else _short if from_zero else _fixed
    return _Plot(across, up, x, y, _short, shown).drawn(series, radius=2)


def calibration(series: Sequence[Series]) -> str:
    """Observed over predicted rates of bins; on the diagonal they agree."""
    top = 1.05 * max(max(point) for one in series for point in one.points)
    top = top if top > 0 else 1.0
    plot = _Plot((0.0, top), (0.0, top), "mean prediction of a bin", "mean label", _fixed, _fixed)
    return plot.drawn(
        series,
        radius=1.75,
        before=plot.line([(0.0, 0.0), (top, top)], "--soft", ' stroke-width="0.8" stroke-dasharray="4 3"'),
    )


class _Plot:
    """The axes of one plot. `across` and `up`: the ranges of x and y."""

    def __init__(self, across: Point, up: Point, x: str, y: str, x_text: Text, y_text: Text) -> None:
        self.across, self.up, self.x, self.y = across, up, x, y
        self.columns, self.rows = _ticks(*across, 6, x_text), _ticks(*up, 5, y_text)
        self.left = 2.4 * FONT + DIGIT * max((len(text) for _, text in self.rows), default=0)

    def place(self, point: Point) -> Point:
        """Where a point lies on the page."""
        (x, y), (left, right), (low, high) = point, self.across, self.up
        across, down = (x - left) / (right - left), (high - y) / (high - low)
        return self.left + across * (WIDTH - RIGHT - self.left), TOP + down * (HEIGHT - TOP - BOTTOM)

    def line(self, points: Sequence[Point], colour: str, more: str = "") -> str:
        """Points joined by a line. Of many in one column, the first, the lowest, the highest and the last stand for all."""
        drawn: list[Point] = []
        for _, column in groupby(map(self.place, points), key=lambda place: round(place[0] * 2)):
            same = list(column)
            drawn += (
                same
                if len(same) < 5
                else [same[0], min(same, key=itemgetter(1)), max(same, key=itemgetter(1)), same[-1]]
            )
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
        return f'<polyline points="{path}" style="stroke:var({colour})"{more}/>'

    def drawn(self, series: Sequence[Series], radius: float, before: str = "") -> str:
        """The <svg> element. `radius`: of a dot; `before`: what the lines are drawn over."""
        foot = HEIGHT - BOTTOM
        parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" font-size="{FONT}" fill="none" stroke-linejoin="round">']
        for value, text in self.rows:
            _, down = self.place((self.across[0], value))
            parts.append(
                f'<path d="M{self.left:.1f} {down:.1f}H{WIDTH - RIGHT}" stroke-width="0.6" style="stroke:var(--line)"/>'
            )
            parts.append(_text(self.left - 6, down + FONT / 3, text, "end"))
        parts.append(
            f'<path d="M{self.left:.1f} {foot}H{WIDTH - RIGHT}" stroke-width="0.8" style="stroke:var(--line)"/>'
        )
        parts += [_text(self.place((value, self.up[0]))[0], foot + 14, text) for value, text in self.columns]
        parts.append(_text((self.left + WIDTH - RIGHT) / 2, HEIGHT - 4, self.x))
        turned = f' transform="rotate(-90 {FONT} {(TOP + foot) / 2})"'
        parts += [_text(FONT, (TOP + foot) / 2, self.y, more=turned), *([before] if before else [])]
        for index, one in enumerate(series):
            points = [(x, _within(y)) for x, y in one.points]
            colour = f"--s{index % SERIES + 1}"
            parts.append(self.line(points, colour, ' stroke-width="1.2"'))
            if one.kind == "dots" or len(points) == 1:
                dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>' for x, y in map(self.place, points))
                parts.append(f'<g style="fill:var({colour})">{dots}</g>')
        return "\n".join([*parts, "</svg>"])


def _text(x: float, y: float, text: str, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" style="fill:var(--soft)"{more}>{text}</text>'


def _within(value: float) -> float:
    return min(max(value, -LARGEST), LARGEST)


def _range(values: Sequence[float]) -> Point:
    """What an axis shows: all values and a margin; of one value, its neighbourhood."""
    low, high = _within(min(values)), _within(max(values))
    size = max(abs(low), abs(high))
    margin = MARGIN * ((high - low) if high - low > 1e-9 * size else size)
    return (low - margin, high + margin) if margin > 1e-300 else (low - MARGIN, high + MARGIN)


def _ticks(low: float, high: float, most: int, text: Text) -> list[tuple[float, str]]:
    """Values of an axis, at most `most` + 1, at multiples of 1, 2, 2.5 or 5 times a power of ten, and their texts."""
    least = (high / most - low / most) * (1 - 1e-9)
    exponent = math.floor(math.log10(least))
    size = next(size for size in (1, 2, 2.5, 5, 10) if size * 10.0**exponent >= least)
    step, places = size * 10.0**exponent, max(0, (size == 2.5) - exponent - (size == 10))
    values = [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    return [(value, text(value, places)) for value in values]


def _fixed(value: float, places: int) -> str:
    return f"{value:.{places}f}" if abs(value) < 1e4 and places < 7 else _short(value, places)


def _percent(value: float, places: int) -> str:
    return f"{value:.{max(0, places - 2)}%}"


def _short(value: float, _: int) -> str:
    """1200 -> 1.2k."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
