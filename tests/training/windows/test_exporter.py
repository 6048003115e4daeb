"""The process that exports beside training: it stays, is started again when it has ended, and its failures are named."""

from __future__ import annotations

import time
from typing import Any

import pytest

from interformer_rec.training.windows import exporter
from interformer_rec.training.windows.exporter import Exporter

# answers with the number of answers, ends as it is told to
ECHO = """
import json, os, sys
for number, line in enumerate(iter(sys.stdin.readline, "")):
    job = json.loads(line)
    if job["path"] == "crash":
        sys.exit("Out of memory")
    print(json.dumps({"done": {"path": job["path"], "number": number, "rank": os.environ.get("RANK")}}), flush=True)
    if job["path"] == "last":
        break
"""


@pytest.fixture
def made(tmp_path, monkeypatch):
    (tmp_path / "echo_of_jobs.py").write_text(ECHO, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(exporter, "MODULE", "echo_of_jobs")
    found = Exporter()
    yield found
    found.stop()


def asked(exporter_: Exporter, path: str) -> dict[str, Any]:
    exporter_.ask({"path": path})
    while (said := exporter_.answer()) is None:
        time.sleep(0.01)
    return said


def test_one_process_answers_again_and_again(made):
    assert [asked(made, path)["done"] for path in ("a", "b")] == [
        {"path": "a", "number": 0, "rank": None},
        {"path": "b", "number": 1, "rank": None},
    ]


def test_a_process_that_has_ended_is_started_again(made):
    assert asked(made, "last")["done"]["number"] == 0
    assert made._process.wait() == 0
    assert asked(made, "a")["done"]["number"] == 0


def test_a_failure_is_named_and_the_next_export_is_made(made):
    assert asked(made, "crash") == {"failed": "Out of memory"}
    assert "done" in asked(made, "a")


def test_one_that_is_at_work_is_stopped(made):
    made.ask({"path": "a"})
    made.stop()
    assert "done" in asked(made, "b")
