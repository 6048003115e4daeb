"""A study as a user sees it: trials are runs, the best one replays, what contradicts is counted, and the test file is not opened."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from interformer_rec import cli
from interformer_rec.install import search
from interformer_rec.tuning import worker
from interformer_rec.tuning.store import open_store
from tests.tuning.conftest import TRIALS, content, sets


def metrics(run: Path) -> dict:
    return json.loads((run / "evaluation.json").read_text())["valid"]


def test_every_trial_is_a_run_and_the_best_is_the_best_of_them(study: Path):
    found = content(study)
    assert [trial["trial"] for trial in found["trials"]] == [f"{number:04d}" for number in range(TRIALS)]
    assert found["trials"][0]["settings"] == {} and found["trials"][0]["state"] == "done"
    done = [trial for trial in found["trials"] if trial["state"] == "done"]
    for trial in done:
        run = study / "trials" / trial["trial"]
        assert metrics(run)["label/auc"] == trial["value"] == max(value for _, value in trial["evaluations"])
        saved = yaml.safe_load((run / "config.yaml").read_text())
        assert all(json.dumps(_at(saved, key)) == json.dumps(value) for key, value in trial["settings"].items())
        assert saved["data"]["test"] is None
    assert found["best"]["value"] == max(trial["value"] for trial in done)
    kept = {path.parent.name for path in study.glob("trials/*/checkpoints")}
    assert kept == {found["best"]["trial"]}  # the others' are removed
    assert len({json.dumps(trial["settings"]) for trial in found["trials"]}) == TRIALS


def _at(tree: dict, key: str) -> object:
    for part in key.split("."):
        tree = tree[part]
    return tree


def test_settings_that_contradict_each_other_are_counted_and_said(study: Path):
    found = content(study)
    refused = [trial for trial in found["trials"] if trial["state"] == "refused"]
    assert refused and found["counts"]["refused"] == len(refused)
    for trial in refused:
        assert (trial["settings"]["model.d"], trial["settings"]["model.heads"]) == (12, 4)
        assert "d / heads = 3 must be even" in trial["why"] and not (study / "trials" / trial["trial"]).exists()
    others = [trial for trial in found["trials"] if trial not in refused]
    assert all((t["settings"].get("model.d"), t["settings"].get("model.heads")) != (12, 4) for t in others)


def test_the_config_of_the_best_trial_replays_it(study: Path, config: Path, tmp_path: Path):
    assert yaml.safe_load((study / "best.yaml").read_text())["data"]["test"].endswith(
        "test.parquet"
    )  # as the user has it
    hidden = tmp_path / "test.parquet"
    hidden.write_bytes(config.with_name("hidden").read_bytes())
    places = ["--set", f"data.test={hidden}", "--set", f"training.out={tmp_path / 'again'}"]
    assert cli.main(["train", str(study / "best.yaml"), *places]) == 0
    best, again = content(study)["best"], metrics(tmp_path / "again")
    assert again["label/auc"] == best["value"]
    assert {**again, "seconds": 0} == {**metrics(study / "trials" / best["trial"]), "seconds": 0}


def test_more_trials_of_a_study_that_is_there(study: Path, config: Path, space: Path, capsys: pytest.CaptureFixture):
    """Without --resume it is refused, with another config too; with --resume nothing is left to do."""
    command = ["tune", str(config), "--trials", str(TRIALS), "--space", str(space), "--out", str(study)]
    before = content(study)
    assert cli.main([*command, *sets()]) == 2
    assert "there is a study in" in capsys.readouterr().err
    assert cli.main([*command, *sets("model.layers=2", "data.batch_size=32"), "--resume"]) == 2
    said = capsys.readouterr().err
    assert "data.batch_size was 64 and is now 32" in said and "model.layers was 1 and is now 2" in said
    assert cli.main([*command, *sets(), "--resume"]) == 0
    assert f"{TRIALS} of them done" in capsys.readouterr().out
    assert content(study) == before


def test_what_is_wrong_is_said_before_anything_is_written(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    def refused(*more: str) -> str:
        assert cli.main(["tune", str(config), *sets(), "--out", str(tmp_path / "out"), *more]) == 2
        return capsys.readouterr().err

    assert "a study has at least one" in refused("--trials", "0")
    assert "name validation files" in refused(
        "--trials", "1", "--set", "data.valid=null", "--set", "training.eval_every_steps=null"
    )
    assert "a folder of a file system" in refused("--trials", "1", "--out", "s3://bucket/x")
    assert "cannot be opened" in refused("--trials", "1", "--storage", "nosuch://user:secret@host/x")
    assert "secret" not in refused("--trials", "1", "--storage", "postgresql://user:secret@localhost:1/x")
    assert "there is no folder" in refused("--trials", "1", "--storage", str(tmp_path / "no" / "j"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "not under torchrun" in refused("--trials", "1")
    monkeypatch.setattr(search, "find_spec", lambda name: None)
    assert "pip install 'interformer-rec[tune]'" in refused("--trials", "1")
    assert not (tmp_path / "out").exists()


def test_a_worker_whose_processes_cannot_start_leaves_all_trials_to_others(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(worker, "TRIAL", "interformer_rec.nowhere")
    assert cli.main(["tune", str(config), *sets(), "--trials", "3", "--out", str(tmp_path / "out")]) == 2
    assert "no trial can begin here: its process ended by exit code 1" in capsys.readouterr().err
    trials = optuna.load_study(study_name="synthetic", storage=open_store(None, tmp_path / "out")[0]).trials
    assert [trial.state for trial in trials] == [TrialState.FAIL, TrialState.WAITING]


def test_a_config_that_cannot_be_trained_ends_its_study_and_can_go_on(
    config: Path, space: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    """The first trial is the config as it is: if that is refused, no other one is tried."""
    gone = tmp_path / "valid.parquet"
    command = ["tune", str(config), *sets(f"data.valid={gone}"), "--trials", "1", "--space", str(space)]
    command += ["--out", str(tmp_path / "out")]
    assert cli.main(command) == 2
    assert "valid.parquet" in capsys.readouterr().err
    gone.write_bytes(config.with_name("valid.parquet").read_bytes())
    assert cli.main([*command, "--resume"]) == 0
    assert [trial["trial"] for trial in content(tmp_path / "out")["trials"]] == ["0000"]
