"""The guide's table of both planners is that of the kept result."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[3]
RESULT = ROOT / "benchmarks" / "results" / "planner-2cores-2026-11-30.json"
HEAD = "| case | perf: ours | theirs | ratio | step: ours | theirs | ratio | step of their plan for perf |"


def rows() -> list[str]:
    """As the guide shows the result."""
    cases = json.loads(RESULT.read_text(encoding="utf-8"))["cases"]
    return ["| " + " | ".join(cells(name, case)) + " |" for name, case in cases.items()]


def cells(name: str, case: dict) -> list[str]:
    def ms(row: dict, objective: str) -> str:
        return f"{row[objective]:.4g}" + "*" * row.get("cut", False) if objective in row else "none"

    found = [name]
    for objective in ("perf", "step"):
        ours, theirs = case[objective]["ours"], case[objective]["upstream"]
        ratio = case.get(f"{objective}_ratio")
        found += [ms(ours, objective), ms(theirs, objective), "" if ratio is None else f"{ratio:.3f}"]
    return [*found, ms({**case["perf"]["upstream"], "cut": False}, "step")]


def test_the_guide_shows_the_result():
    lines = (ROOT / "docs" / "guides" / "planning.md").read_text(encoding="utf-8").splitlines()
    start = lines.index(HEAD) + 2
    assert lines[start : start + len(rows())] == rows()


def test_both_planners_met_on_fifteen_cases_and_ours_was_never_worse():
    cases = json.loads(RESULT.read_text(encoding="utf-8"))["cases"]
    assert sum("perf_ratio" in case and "step_ratio" in case for case in cases.values()) >= 15
    for case in cases.values():
        assert all(case.get(f"{objective}_ratio", 1.0) > 1 - 1e-6 for objective in ("perf", "step"))
