"""Result files: the same values as before, a line for each case, and the kept ones are in this form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.harness.result_file import read_result, write_result
from interformer_rec.files import json_by_lines

KEPT = sorted(
    path
    for path in (Path(__file__).parents[3] / "benchmarks/results").glob("*.json")
    if "triton-compile" not in path.name
)


def test_a_case_is_a_line(tmp_path):
    result = {
        "benchmark": "data",
        "versions": {"torch": "2.13.0"},
        "lengths": [1, 2],
        "cases": [{"a": 0.1, "deep": {"b": [1, 2]}}, {"a": float("nan")}],
        "by_name": {"x": {"ms": 1e-05}, "y": {"ms": 2}},
        "none": [],
    }
    text = json_by_lines(result)
    assert text.splitlines() == [
        "{",
        ' "benchmark": "data",',
        ' "versions": {"torch": "2.13.0"},',
        ' "lengths": [1, 2],',
        ' "cases": [',
        '  {"a": 0.1, "deep": {"b": [1, 2]}},',
        '  {"a": null}',
        " ],",
        ' "by_name": {',
        '  "x": {"ms": 1e-05},',
        '  "y": {"ms": 2}',
        " },",
        ' "none": []',
        "}",
    ]
    write_result(str(tmp_path / "new" / "result.json"), result)
    assert read_result(str(tmp_path / "new" / "result.json"))["cases"] == [
        {"a": 0.1, "deep": {"b": [1, 2]}},
        {"a": None},
    ]


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.name)
def test_kept_results_have_this_form(path):
    assert path.read_text(encoding="utf-8") == json_by_lines(json.loads(path.read_text(encoding="utf-8")))
