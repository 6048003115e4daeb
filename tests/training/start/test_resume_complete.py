"""--resume of a run that has ended, and of one whose checkpoints lie somewhere else."""

from __future__ import annotations

import shutil

import pytest
import yaml

from interformer_rec.config.run import RunConfig
from interformer_rec.errors import InputError
from interformer_rec.training import run
from interformer_rec.training.folder.run_folder import RunFolder
from interformer_rec.training.start.resume import resumed
from tests.training.runs import SHORT, compare, contents, settings


def test_a_complete_run_says_so_and_changes_no_file(began, tmp_path, capfd):
    tree, folder = began
    shutil.copytree(folder, tmp_path / "run")
    before = contents(tmp_path / "run")
    assert run.train(settings(tree, tmp_path / "run", *SHORT), resume=True) == 0
    assert "already complete at step 10, nothing to do" in capfd.readouterr().out
    assert contents(tmp_path / "run") == before
    with pytest.raises(InputError, match=r"model.d was 8"):  # a refusal comes first
        run.train(settings(tree, tmp_path / "run", *SHORT, "model.d=16"), resume=True)


def test_an_end_that_was_cut_short_is_done(began, tmp_path, capfd):
    tree, folder = began
    shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "run" / "complete.json").unlink()
    (tmp_path / "run" / "report.html").unlink()
    assert run.train(settings(tree, tmp_path / "run", *SHORT), resume=True) == 0
    assert "already complete" not in capfd.readouterr().out
    assert (tmp_path / "run" / "report.html").exists() and (tmp_path / "run" / "complete.json").exists()


def test_a_complete_run_gets_its_lost_config_back(began, tmp_path):
    tree, folder = began
    shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "run" / "config.yaml").unlink()
    assert run.train(settings(tree, tmp_path / "run", *SHORT), resume=True) == 0
    assert (tmp_path / "run" / "config.yaml").exists()


def test_a_run_with_steps_left_is_not_complete(began):
    assert compare(began, *SHORT)[0].complete == 10
    assert compare(began, *SHORT, "training.max_steps=11")[0].complete is None
    assert compare(began, *SHORT, "training.max_steps=null")[0].complete is None


def test_a_run_that_patience_ended_is_complete_until_there_is_more_of_it(began, tmp_path):
    still = [
        "optimizer.dense.lr=1e-30",
        "optimizer.embedding.lr=1e-30",
        "training.eval_every_steps=3",
        "data.test=null",
    ]

    def config(*overrides: str) -> RunConfig:
        return settings(began[0], tmp_path / "run", *still, *overrides)

    assert run.train(config("training.patience=0")) == 0
    assert resumed(config("training.patience=0"), RunFolder(config())).complete == 6
    assert resumed(config("training.patience=1"), RunFolder(config())).complete is None


def test_checkpoints_that_are_not_where_the_config_looks_are_not_begun_anew(began, tmp_path):
    elsewhere = f"training.checkpoint.path={tmp_path}/elsewhere"
    with pytest.raises(
        InputError, match=r"has its checkpoints in '.*/run/checkpoints', and there are none in '.*elsewhere'"
    ):
        compare(began, elsewhere)
    shutil.copytree(began[1] / "checkpoints", tmp_path / "elsewhere")
    assert compare(began, elsewhere)[0].complete is None


def test_a_store_that_only_the_run_folder_names_is_not_opened(began, tmp_path):
    tree, folder = began
    shutil.copytree(folder, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    file = tmp_path / "run" / "config.yaml"
    saved = yaml.safe_load(file.read_text(encoding="utf-8"))
    saved["training"]["checkpoint"]["path"] = "s3://nobody.invalid/checkpoints"
    file.write_text(yaml.safe_dump(saved), encoding="utf-8")
    config = settings(tree, tmp_path / "run")
    with pytest.raises(InputError, match=r"has its checkpoints in 's3://nobody.invalid/checkpoints'"):
        resumed(config, RunFolder(config))
