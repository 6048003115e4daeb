"""benchmarks.event_store: both forms give the same batches, and a store is smaller."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import event_store


def test_both_forms_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "result.json"
    options = ["--lengths", "20,60", "--events", "20000", "--rounds", "1", "--json", str(out)]
    monkeypatch.setattr(sys, "argv", ["event_store", *options])
    event_store.main()
    cases = json.loads(out.read_text(encoding="utf-8"))["cases"]
    assert [case["T"] for case in cases] == [20, 60]
    assert [case["events_a_history"] for case in cases] == pytest.approx([20, 60], abs=1)
    assert all(case["store_bytes_a_row"] < case["fat_bytes_a_row"] and case["times_faster"] > 0 for case in cases)
    assert "bytes smaller" in capsys.readouterr().out
