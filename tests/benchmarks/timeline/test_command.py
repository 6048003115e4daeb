"""The timeline benchmark end to end on made-up days, and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.timeline import command
from benchmarks.timeline.systems import SYSTEMS

Row = dict[str, Any]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Row:
    path = tmp_path_factory.mktemp("timeline") / "r.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["timeline", "--quick", "--set", "data.id_dropout=0", "--json", str(path)])
        assert command.main() == 0
    found: Row = json.loads(path.read_text(encoding="utf-8"))
    return found


def of(result: Row, system: str) -> dict[str, Row]:
    return {case["window"]: case for case in result["cases"] if case["system"] == system}


@pytest.mark.slow
def test_every_system_is_judged_on_its_windows(result):
    windows = list(of(result, "continued"))
    assert len(windows) == command.QUICK["partitions"] and windows == sorted(windows)
    expected = dict.fromkeys(SYSTEMS, windows) | {"frozen": windows[2:], "retrained": windows[1:]}
    assert {name: list(of(result, name)) for name in SYSTEMS} == expected
    assert all(case["rows"] == command.QUICK["rows_a_day"] and 0 < case["auc"] < 1 for case in result["cases"])


@pytest.mark.slow
def test_systems_agree_where_they_are_the_same_model(result):
    """Frozen at its first window is still the continued one. One window from scratch knows what continued training knows after it; its
    rows began at random and not with the unknown row (docs/decisions/0034-what-the-unknown-row-means.md)."""
    continued = of(result, "continued")
    second, middle = list(continued)[1:3]
    assert of(result, "frozen")[middle]["auc"] == continued[middle]["auc"]
    for other, window in (("retrained", second), ("frozen", middle)):
        assert of(result, other)[window]["unknown"] == continued[window]["unknown"]


@pytest.mark.slow
def test_only_growing_tables_know_late_ids(result):
    last = list(of(result, "continued"))[-1]
    unknown = {name: of(result, name)[last]["unknown"].get("item_id", 0) for name in SYSTEMS}
    assert unknown["fixed"] == unknown["frozen"] == 1
    assert 0 < unknown["continued"] == unknown["retrained"] < 1 and unknown["hashed"] == 0


@pytest.mark.slow
def test_costs_and_targets(result):
    rows = [case["trained_rows"] for case in of(result, "retrained").values()]
    assert rows == [command.QUICK["rows_a_day"] * number for number in (1, 2, 3)]
    summary = result["summary"]
    assert summary["compute"]["ratio_of_rows"] == pytest.approx(4 / 6)
    assert all(case["train_cpu_seconds"] > 0 for case in of(result, "hashed").values())
    assert {target["target"]: target["met"] for target in summary["targets"]}["table bytes constant"] is True
    assert len(summary["targets"]) == 5


@pytest.mark.parametrize(
    "line, said",
    [
        ("--systems hashed", "must have continued"),
        ("--systems continued,later", "'later' is not one of"),
        ("--decay 0", "not in"),
        ("--data ml_100k --data-dir NOWHERE", "NOWHERE' has no"),
        ("--quick --windows 2", "three are the least"),
        ("--quick --data ml_100k", "of its own"),
    ],
)
def test_bad_input(line: str, said: str, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["timeline", *line.replace("NOWHERE", str(tmp_path / "NOWHERE")).split()])
    assert command.main() == 2
    assert said in capsys.readouterr().err
