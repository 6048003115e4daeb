"""Names of windows: their order, and what is missing between two."""

from __future__ import annotations

import pytest

from interformer_rec.data.windows.window import missing_between, moment_of, order_of, sizes_of


def test_numbers_in_names_are_numbers() -> None:
    names = ["dt=2026-11-28/hr=10", "dt=2026-11-28/hr=9", "dt=2026-11-27/hr=23", "dt=2026-12-01/hr=0"]
    assert sorted(names, key=order_of) == [names[2], names[1], names[0], names[3]]
    assert sorted(["part-b.parquet", "part-a.parquet"], key=order_of) == ["part-a.parquet", "part-b.parquet"]


@pytest.mark.parametrize(
    "name, unit",
    [
        ("dt=2026-11-28", "day"),
        ("20261128", "day"),
        ("dt=2026-11-28/hr=07", "hour"),
        ("year=2026/month=11/day=28/hour=7", "hour"),
        ("month=202611", "month"),
        ("year=2026/month=3", "month"),
        ("week=12", "number"),
    ],
)
def test_a_name_says_when(name: str, unit: str) -> None:
    moment = moment_of(name)
    assert moment is not None and moment.unit == unit


@pytest.mark.parametrize("name", ["all", "dt=2026-13-45", "a=1/b=2", "dt=2026-02-30", "v2-dt=2026-11-28-part-7"])
def test_a_name_may_say_nothing_of_time(name: str) -> None:
    assert moment_of(name) is None


def test_what_is_missing_goes_by_the_smallest_step() -> None:
    days = [f"dt=2026-11-{day:02}" for day in (1, 2, 5)]
    assert missing_between(days[0], days[1], days) == 0 and missing_between(days[1], days[2], days) == 2
    weeks = [f"dt=2026-11-{day:02}" for day in (1, 8, 15, 29)]
    assert missing_between(weeks[1], weeks[2], weeks) == 0 and missing_between(weeks[2], weeks[3], weeks) == 1
    months = ["dt=2026-01-01", "dt=2026-02-01", "dt=2026-03-01", "dt=2026-05-01"]
    assert missing_between(months[0], months[1], months) == 0 and missing_between(months[2], months[3], months) == 1
    hours = ["dt=2026-11-28/hr=23", "dt=2026-11-29/hr=0", "dt=2026-11-29/hr=2"]
    assert missing_between(hours[0], hours[1], hours) == 0 and missing_between(hours[1], hours[2], hours) == 1
    year_end = ["month=202611", "month=202612", "month=202701"]
    assert missing_between(year_end[1], year_end[2], year_end) == 0


def test_nobody_can_tell_between_names_of_two_kinds() -> None:
    assert missing_between("dt=2026-11-01", "dt=2026-11-09", ["dt=2026-11-02", "week=3"]) == 0
    assert missing_between("a", "c", ["b"]) == 0


def test_sizes_depend_on_names_and_bytes() -> None:
    assert sizes_of([("a", 1), ("b", 2)]) == sizes_of([("a", 1), ("b", 2)])
    assert len({sizes_of(files) for files in ([("a", 1)], [("a", 2)], [("b", 1)], [("a", 1), ("b", 1)], [])}) == 5
