"""The report of a study: a result that is kept is drawn again by a command."""

import sys
from pathlib import Path

import pytest

from benchmarks.quality import report

RESULTS = Path(__file__).parents[3] / "benchmarks/results"


@pytest.mark.parametrize("name", ["quality-ml_100k", "quality_scaling-kuairand_pure"])
def test_a_kept_result_is_drawn(name, tmp_path, monkeypatch):
    (kept,) = RESULTS.glob(f"{name}-2cores-*.json")
    monkeypatch.setattr(sys, "argv", ["report", str(kept), "--out", str(tmp_path / "picture.png")])
    assert report.main() == 0
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_no_result_of_a_study_is_named(monkeypatch, capsys, tmp_path):
    other = str(next(RESULTS.glob("kernels-*.json")))
    monkeypatch.setattr(sys, "argv", ["report", other, "--out", str(tmp_path / "picture.png")])
    assert report.main() == 2
    assert f"{other!r} is no result of benchmarks.quality" in capsys.readouterr().err
