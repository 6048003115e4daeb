"""The plan's milliseconds beside published ones. The quick points run with every change, the others with the slow tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from interformer_rec.planning.clock import PUBLISHED
from tests.planning.public_figures.predictions import Prediction, points, prediction

WITHIN = 0.25
QUICK = ("lookups",)  # models whose dense part and plan take a second
ROOT = Path(__file__).parents[3]
GUIDE, README = ROOT / "docs" / "guides" / "planning.md", ROOT / "README.md"
TABLE_ROW = re.compile(r"\| (fit|check|floor) \| ")
EVERY = [
    pytest.param(n, id=str(p["name"]), marks=() if p["model"] in QUICK else pytest.mark.slow)
    for n, p in enumerate(points())
]


@pytest.mark.parametrize("number", EVERY)
def test_a_published_step_is_predicted(number: int):
    found = prediction(number)
    if found.point["use"] == "floor":
        assert found.ms >= float(found.point["ms"])  # type: ignore[arg-type]
        return
    assert abs(found.error) <= WITHIN
    low, high = PUBLISHED
    assert low * found.ms <= float(found.point["ms"]) <= high * found.ms  # type: ignore[arg-type]


@pytest.mark.parametrize("number", EVERY)
def test_guide_and_readme_show_it(number: int):
    found = prediction(number)
    for page in (GUIDE, README):
        (row,) = (line for line in lines(page) if f"| {found.point['name']} |" in line)
        assert row == f"| {found.point['use']} | {found.point['name']} {shown(found)}"


def test_the_readme_has_the_guides_table_and_says_how_far_it_is_off():
    tables = [[line for line in lines(page) if TABLE_ROW.match(line)] for page in (GUIDE, README)]
    assert tables[0] == tables[1]
    assert [row.split(" | ")[1] for row in tables[0]] == [point["name"] for point in points()]
    errors = [int(error) for row in tables[0] for error in re.findall(r"\| ([+-]\d+)% \|$", row)]
    text = " ".join(README.read_text(encoding="utf-8").split())
    assert len(errors) == 8 and f"within {max(map(abs, errors))}% of eight steps" in text


def test_a_point_is_either_fitted_or_checked():
    uses = [point["use"] for point in points()]
    assert set(uses) == {"fit", "check", "floor"}
    assert uses.count("check") >= uses.count("fit")
    assert all(re.search(r"https://|the same table", str(point["source"])) for point in points())


def lines(page: Path) -> list[str]:
    """Of a document."""
    return page.read_text(encoding="utf-8").splitlines()


def shown(found: Prediction) -> str:
    """The cells of the guide's table."""
    error = "" if found.point["use"] == "floor" else f"{found.error:+.0%}"
    return f"| {float(found.point['ms']):.3g} | {found.ms:.3g} | {error} |"  # type: ignore[arg-type]
