"""Which window comes next, and what is said of one that changed, came late, is missing, or is empty."""

from __future__ import annotations

import pytest

from interformer_rec.config.windows import WindowsConfig
from interformer_rec.data.windows.judge import Judged, judge, left_out_empty
from interformer_rec.data.windows.window import Seen, Window
from interformer_rec.errors import InputError


def window(day: int, sizes: int = 7, modified: float | None = 1.0, unfinished: str | None = None) -> Window:
    return Window(f"dt=2026-11-{day:02}", ("part",), sizes, modified, unfinished)


def seen(day: int, outcome: str = "trained", footers: int = 5) -> Seen:
    return Seen(f"dt=2026-11-{day:02}", outcome, 7, 1.0, footers, 100)


def ask(windows: list[Window], before: list[Seen], footers: int = 5, **options: object) -> Judged:
    return judge(windows, before, WindowsConfig(path="x", **options), lambda window: footers)  # type: ignore[arg-type]


def test_the_first_that_was_not_read_comes_next() -> None:
    judged = ask([window(1), window(2), window(3)], [seen(1)])
    assert judged.next == window(2) and judged.notes == [] and judged.waiting is None
    assert ask([window(1)], [seen(1)]).next is None
    assert ask([], []).next is None


def test_old_windows_may_be_deleted() -> None:
    judged = ask([window(3)], [seen(1), seen(2)])
    assert judged.next == window(3) and judged.notes == [] and len(judged.seen) == 2


def test_none_is_passed_over_that_is_not_whole() -> None:
    judged = ask([window(1), window(2, unfinished="it has no _SUCCESS"), window(3)], [seen(1)])
    assert judged.next is None and judged.waiting == "window 'dt=2026-11-02' is not whole: it has no _SUCCESS"


@pytest.mark.parametrize(
    "now, footers", [(window(1, sizes=8), 5), (window(1, sizes=8), 6), (window(1, modified=2.0), 6)]
)
def test_a_window_that_changed(now: Window, footers: int) -> None:
    with pytest.raises(InputError, match=r"'dt=2026-11-01' was trained on, and its files have changed since: restore"):
        ask([now, window(2)], [seen(1)], footers)
    judged = ask([now, window(2)], [seen(1)], footers, changed="warn")
    assert judged.next == window(2) and len(judged.notes) == 1 and "they are not read again" in judged.notes[0]
    again = ask([now, window(2)], judged.seen, footers)
    assert again.notes == []  # once


def test_another_time_alone_is_no_change() -> None:
    judged = ask([window(1, modified=9.0), window(2)], [seen(1)])
    assert judged.next == window(2) and judged.notes == [] and judged.seen[0].modified == 9.0


def test_an_empty_or_late_one_that_changed_is_named_too() -> None:
    for outcome, words in (("empty", "had no rows, and was passed over"), ("late", "came too late")):
        with pytest.raises(InputError, match=words):
            ask([window(1, sizes=8), window(3)], [seen(1, outcome, 0), seen(2)])


def test_a_late_window() -> None:
    with pytest.raises(
        InputError, match=r"'dt=2026-11-02' has appeared late: 'dt=2026-11-03'.*data.windows.late: skip"
    ):
        ask([window(1), window(2), window(3), window(4)], [seen(1), seen(3)])
    judged = ask([window(1), window(2), window(3), window(4)], [seen(1), seen(3)], late="skip")
    assert judged.next == window(4) and [one.outcome for one in judged.seen] == ["trained", "trained", "late"]
    assert ask([window(2), window(4)], judged.seen).notes == []  # once


def test_a_gap() -> None:
    there = [window(1), window(2), window(4)]
    judged = ask(there, [seen(1), seen(2)])
    assert judged.next == window(4) and "1 window(s) are missing between 'dt=2026-11-02'" in judged.notes[0]
    with pytest.raises(InputError, match=r"1 window\(s\) are missing .* data.windows.gap: warn"):
        ask(there, [seen(1), seen(2)], gap="error")


def test_an_empty_window() -> None:
    skipped = left_out_empty(window(2), WindowsConfig(path="x"))
    assert skipped.outcome == "empty" and ask([window(1), window(2), window(3)], [seen(1), skipped]).next == window(3)
    with pytest.raises(InputError, match=r"'dt=2026-11-02' has no rows .*data.windows.empty: skip"):
        left_out_empty(window(2), WindowsConfig(path="x", empty="error"))
