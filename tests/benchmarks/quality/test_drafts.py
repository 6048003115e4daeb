"""The comparison by drafts alone: every kind's draft is inspect's, trained, tested once and compared; the same again runs nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks.quality import command as quality
from benchmarks.quality.drafts import FOLDERS, folders_of
from interformer_rec.data.inspect.command import inspect_folder
from interformer_rec.errors import InputError
from tests.benchmarks.ratings import write_ratings

SMALL = ("data.batch_size=128", "data.eval_batch_size=256", "model.embedding_dim=4", "training.epochs=1")


@pytest.mark.slow
def test_drafts_are_trained_tested_and_compared(tmp_path, monkeypatch, capsys):
    ratings = write_ratings(tmp_path / "ratings")
    changes = [part for change in (*SMALL, "training.device=cpu") for part in ("--override", change)]
    argv = ["--drafts", "--data", f"ratings={ratings}", "--models", "fm,interformer", "--seeds", "2", *changes]
    monkeypatch.setattr(sys, "argv", ["quality", *argv, "--out", str(tmp_path / "out")])
    assert quality.main() == 0, capsys.readouterr().err
    result = json.loads((tmp_path / "out" / "drafts.json").read_text())
    rows = {row["kind"]: row for row in result["systems"]}
    assert set(rows) == {"fm", "interformer"} and all(row["tested"] == "test" for row in rows.values())
    assert (tmp_path / "out" / "drafts" / "ratings-fm.yaml").read_text() == inspect_folder(str(ratings), "fm")
    runs = sorted((tmp_path / "out" / "runs" / "ratings").iterdir())
    assert [run.name.split("-")[:2] for run in runs] == [
        ["fm", "0"],
        ["fm", "1"],
        ["interformer", "0"],
        ["interformer", "1"],
    ]
    config = yaml.safe_load((runs[2] / "config.yaml").read_text())
    assert (
        config["model"]["embedding_dim"] == 4
        and config["seed"] == 0
        and config["data"]["test"].endswith("test.parquet")
    )
    (difference,) = result["differences"]
    mean = rows["interformer"]["auc"]["mean"] - rows["fm"]["auc"]["mean"]
    assert difference["kind"] == "fm" and difference["auc"]["mean"] == pytest.approx(mean)
    low, high = difference["auc"]["over_users"]
    assert low < mean < high
    evaluated = json.loads((runs[0] / "evaluation.json").read_text())["test"]
    assert rows["fm"]["runs"]["auc"][0] == evaluated["liked/auc"]
    written = [(run / "result.json").stat().st_mtime_ns for run in runs]
    capsys.readouterr()
    assert quality.main() == 0
    assert [(run / "result.json").stat().st_mtime_ns for run in runs] == written
    assert "drafts only" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--drafts", "--data", "nowhere"], "none of synthetic"),
        (["--drafts", "--data", "mine=/no/such/folder"], "there is no folder"),
        (["--drafts", "--budget", "3"], "--budget does not go with --drafts"),
        (["--models", "fm"], "--data is missing"),
    ],
)
def test_what_cannot_be_asked_is_said(monkeypatch, capsys, argv, said):
    monkeypatch.setattr(sys, "argv", ["quality", *argv])
    assert quality.main() == 2
    assert said in capsys.readouterr().err


def test_a_missing_folder_names_its_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"interformer data synthetic --out data/synthetic"):
        folders_of("synthetic")
    for folder in FOLDERS.values():
        Path(folder).mkdir(parents=True)
    assert folders_of(None) == FOLDERS
