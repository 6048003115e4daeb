"""The serving benchmark on tiny models, and what it says of its targets."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks.serving import command
from benchmarks.serving.targets import targets


def row(level: str, alternative: str, cpu: float, candidates: int = 500, events: int = 100, **more) -> dict:
    return {
        "level": level,
        "events": events,
        "candidates": candidates,
        "alternative": alternative,
        "cpu_ms": cpu,
        **more,
    }


def test_a_target_is_met_missed_or_not_measured():
    rows = [
        row("scorer", "C rows, jagged", 100),
        row("scorer", "aoti", 4),
        row("scorer", "aoti, native", 3.8, portable_over_native={"median": 1.1}),
        row("scorer", "split off, aoti", 30),
        row("scorer", "graphs, aoti", 3),
        row("scorer", "request, aoti", 5),
        row("server", "serve", 7, p50_over_one_by_one=0.9),
        row("server", "serve, one by one", 7, p50_over_one_by_one=1.0),
        {"level": "accuracy", "alternative": "fp16", "auc_change": 1e-6},
        {"level": "accuracy", "alternative": "int8", "auc_change": -2e-5},
        {"level": "http", "alternative": "GET", "cpu_ms": 0.1},
        {"level": "http", "alternative": "POST", "cpu_ms": 0.2},
    ]
    found = {one["what"]: one for one in targets(rows)}
    met = {what: one["met"] for what, one in found.items()}
    assert met == {
        "C rows over split, 100 events, 500 candidates": True,
        "C rows over split, 1,000 events, 50 candidates": None,
        "no split over split, 100 / 500": False,
        "no split over split, 1,000 / 50": None,
        "portable package over native, 100 / 1": None,
        "portable package over native, 100 / 500": True,
        "request over its graphs, in process, 100 / 500": True,
        "request over its graphs, server's CPU, 100 / 500": False,
        "batches save CPU, 100 / 1": None,
        "batches save CPU, 100 / 50": None,
        "batches' p50 over one by one, 100 / 500": True,
        "HTTP alone, ms CPU a request": False,
        "AUC lost by int8 tables": False,
    }
    assert found["C rows over split, 100 events, 500 candidates"]["found"] == 25
    assert found["AUC lost by int8 tables"]["found"] == 2e-5


@pytest.mark.release
def test_quick(tmp_path, monkeypatch, capsys):
    result = tmp_path / "r.json"
    monkeypatch.setattr(
        sys, "argv", ["serving", "--quick", "--models", str(tmp_path / "models"), "--json", str(result)]
    )
    command.main()
    found = json.loads(result.read_text(encoding="utf-8"))
    levels = {one["level"]: one for one in found["cases"]}
    assert set(levels) == {"scorer", "accuracy", "server", "http", "overload"}
    assert {one["alternative"] for one in found["cases"] if one["level"] == "scorer"} >= {
        "C rows, jagged",
        "eager",
        "onnx",
        "onnx, cached",
        "onnx, int8",
        "graphs, onnx",
        "request, onnx",
    }
    assert all(one["cpu_ms"] > 0 for one in found["cases"] if one["level"] == "scorer")
    servers = [one for one in found["cases"] if one["level"] == "server"]
    assert {one["alternative"] for one in servers} == {"serve", "serve, one by one", "serve, cached", "plain"}
    assert all(
        set(one["statuses"]) <= {"200"} for one in servers
    )  # none was due in half a second at a slow machine's rate
    assert "HTTP alone" in capsys.readouterr().out
