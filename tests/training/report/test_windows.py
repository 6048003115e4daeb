"""The windows of a run on its page: figures over windows, a table of the newest, nothing of a run without windows."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from interformer_rec.training.folder.run_log import RunLog, read_log
from interformer_rec.training.report.page import write_report
from interformer_rec.training.report.windows import MOST, windows_of

EVIL = "dt=<script>alert('1')</script>"


def record(place: int, name: str, **more: float) -> dict[str, Any]:
    values = {"click/auc": 0.6 + place / 1_000, "click/ne": 0.9, "click/calibration": 1.02, "click/logloss": 0.5}
    return {"epoch": place, "step": 10 * place, "window": name, "rows": 100.0, "seconds": 1.0, **values, **more}


def logged(folder: Path, windows: list[dict[str, Any]], growth: Sequence[dict[str, Any]] = ()) -> list[dict[str, Any]]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text("name: windows\n", encoding="utf-8")
    with RunLog(folder, enabled=True, total_steps=lambda: 9, console=Console(file=io.StringIO())) as log:
        for window in windows:
            log.window(window)
        for one in growth:
            log.growth(one)
    return read_log(folder)


def test_figures_and_a_table(tmp_path: Path) -> None:
    first = record(0, "dt=1", **{"item/unknown": 0.0, "user/unknown": float("nan")})
    rest = [record(n, f"dt={n + 1}", **{"item/unknown": 0.1 * n, "all/click/auc": 0.61}) for n in (1, 2)]
    found = windows_of(logged(tmp_path, [first, *rest, record(3, EVIL)]))
    assert found is not None
    assert [plot["title"] for plot in found["plots"]] == ["AUC", "Logloss", "NE", "Calibration", "Unknown ids"]
    assert [name for _, name in found["plots"][0]["legend"]] == ["click", "click, all windows"]
    assert [row["name"] for row in found["rows"]] == [EVIL, "dt=3", "dt=2", "dt=1"]
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "nothing has been evaluated" in page  # the last window has no average
    assert "<h2>Windows</h2>" in page and "dt=2" in page and "<script>" not in page and "0.6010" in page


def test_growing_tables_over_the_windows(tmp_path: Path) -> None:
    numbers = [(60, 0, 60, 5), (40, 10, 90, 0)]
    names = ("item/admitted", "item/freed", "item/used_rows", "item/waiting")
    growth = [
        {"epoch": n, "step": 10 * n, **dict(zip(names, found, strict=True)), "user/admitted": 0}
        for n, found in enumerate(numbers)
    ]
    lost = {"epoch": 9, "step": 90, "item/admitted": 7}  # of a window that is not in the log
    found = windows_of(logged(tmp_path, [record(0, "dt=1"), record(1, "dt=2")], [*growth, lost]))
    assert found is not None
    titles = [plot["title"] for plot in found["plots"]]
    assert titles[4:] == ["Ids admitted", "Rows freed", "Rows in use", "Ids that wait"]
    assert all(not plot["legend"] for plot in found["plots"][4:])  # one table: nothing came to user's
    assert "Ids that wait" in write_report(tmp_path).read_text(encoding="utf-8")


def test_the_averages_stand_at_the_top(tmp_path: Path) -> None:
    logged(tmp_path, [record(0, "dt=1"), record(1, "dt=2", **{"all/click/auc": 0.6125, "all/click/ne": 0.875})])
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "nothing has been evaluated" not in page and "Over the windows" in page
    assert page.index("0.6125") < page.index("<h2>Metrics</h2>")


def test_the_table_has_an_end(tmp_path: Path) -> None:
    found = windows_of(logged(tmp_path, [record(n, f"dt={n}") for n in range(MOST + 5)]))
    assert found is not None and found["count"] == MOST + 5
    assert [row["name"] for row in found["rows"]] == [f"dt={n}" for n in reversed(range(5, MOST + 5))]


def test_a_run_without_windows_has_no_such_section(tmp_path: Path) -> None:
    assert windows_of(logged(tmp_path, [])) is None
    assert "<h2>Windows</h2>" not in write_report(tmp_path).read_text(encoding="utf-8")
