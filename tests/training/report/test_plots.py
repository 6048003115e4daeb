"""Plots as SVG: ticks, where points lie, what many points become, values at the ends of what a float holds."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from interformer_rec.training.report.plots import HEIGHT, SERIES, WIDTH, Series, calibration, curves


def texts(svg: str) -> list[str]:
    """All of a plot: ticks of y from below, ticks of x, the two titles."""
    return re.findall(r">([^<]*)</text>", svg)


def lines(svg: str) -> list[list[tuple[float, float]]]:
    """The points of each line as they lie on the page."""
    found = re.findall(r'<polyline points="([^"]*)"', svg)
    return [[(float(x), float(y)) for x, y in (pair.split(",") for pair in line.split())] for line in found]


@pytest.mark.parametrize(
    "points, up, across",
    [
        (((94, 0.6931), (188, 0.7412), (282, 0.7466)), ["0.70", "0.72", "0.74"], ["100", "150", "200", "250"]),
        (((0, 0.1), (400_000, 0.7)), ["0.2", "0.4", "0.6"], ["0", "100k", "200k", "300k", "400k"]),
        (((1, -3.1), (9, -2.7)), ["-3.1", "-3.0", "-2.9", "-2.8", "-2.7"], ["2", "4", "6", "8"]),
        (((1, 5.0), (2, 95.0)), ["20", "40", "60", "80"], ["1", "1.2", "1.4", "1.6", "1.8", "2"]),
        (((1, 2e-9), (2, 6e-9)), ["2e-09", "3e-09", "4e-09", "5e-09", "6e-09"], ["1", "1.2", "1.4", "1.6", "1.8", "2"]),
        (((1, 2e12), (2, 6e12)), ["2e+03G", "3e+03G", "4e+03G", "5e+03G", "6e+03G"], ["1", "1.2", "1.4", "1.6", "1.8", "2"]),
    ],
)  # fmt: skip
def test_ticks_are_round_and_differ(points, up, across):
    assert texts(curves([Series("a", points)], "step", "loss")) == [*up, *across, "step", "loss"]


@pytest.mark.parametrize(
    "values, percent, up",
    [
        ((1900.0, 2300.0), False, ["0", "500", "1k", "1.5k", "2k"]),
        ((0.004, 0.006), True, ["0.0%", "0.2%", "0.4%", "0.6%"]),
        ((0.1, 0.9), True, ["0%", "20%", "40%", "60%", "80%"]),
        ((0.0, 0.0), True, ["0%", "1%", "2%", "3%", "4%", "5%"]),
    ],
)
def test_an_axis_from_zero(values, percent, up):
    svg = curves([Series("a", tuple(enumerate(values)))], "s", "share", from_zero=True, percent=percent)
    assert texts(svg)[: len(up)] == up


def test_points_lie_where_their_values_are():
    """The line of y = x between the ends of both axes, with the margin of an axis on each side."""
    ((first, middle, last),) = lines(curves([Series("a", ((0, 0), (1, 1), (2, 2)))], "x", "y"))
    assert first[0] < middle[0] < last[0] <= WIDTH and HEIGHT > first[1] > middle[1] > last[1] >= 0
    assert middle == pytest.approx(((first[0] + last[0]) / 2, (first[1] + last[1]) / 2), abs=0.1)


@pytest.mark.parametrize(
    "points",
    [
        ((1, 0.7),),
        ((1, 0.0), (2, 0.0)),
        ((1, 1.7e308), (2, -1.7e308), (3, 5e-324)),
        ((1, 5e-324), (2, 0.0)),
        ((1, 1e16), (2, 1e16 + 2)),
        ((5, 1.0), (5, 2.0)),
    ],
)
def test_any_finite_values_are_drawn_within_the_plot(points):
    for svg in (curves([Series("a", points)], "x", "y"), calibration([Series("a", points, "dots")])):
        ElementTree.fromstring(svg)
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for line in lines(svg)[-1:] for x, y in line), svg
        assert 2 < len(texts(svg)) < 16


def test_many_points_keep_their_extremes():
    values = [(step, float(step % 7)) for step in range(50_000)]
    values[31_234] = (31_234, 60.0)
    svg = curves([Series("a", tuple(values))], "step", "loss")
    (drawn,) = lines(svg)
    assert len(drawn) < 5 * WIDTH * 2 and len(svg) < 60_000
    (few,) = lines(curves([Series("a", (values[0], values[31_234], values[-1]))], "step", "loss"))
    assert few[1][1] == min(y for _, y in drawn)


def test_a_series_has_its_colour_and_dots_where_points_are_few():
    several = [Series(str(index), ((0, 0), (1, index)), "dots") for index in range(SERIES + 1)]
    svg = curves(several, "step", "AUC")
    assert re.findall(r"<polyline [^>]*--(\w+)", svg) == [*(f"s{index + 1}" for index in range(SERIES)), "s1"]
    assert svg.count("<circle") == 2 * len(several)
    assert curves([Series("a", ((0, 0), (1, 1)))], "step", "loss").count("<circle") == 0
    assert curves([Series("a", ((0, 0),))], "step", "loss").count("<circle") == 1


def test_the_diagonal_of_calibration_goes_from_corner_to_corner():
    diagonal, line = lines(calibration([Series("a", ((0.1, 0.1), (0.7, 0.7)), "dots")]))
    (x0, y0), (x1, y1) = diagonal
    for x, y in line:
        assert (x - x0) / (x1 - x0) == pytest.approx((y - y0) / (y1 - y0), abs=0.01)
