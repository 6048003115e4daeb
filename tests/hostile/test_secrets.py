"""Secrets in the paths of a run: no byte of what it saves or prints holds one, and the saved config replays it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from interformer_rec import cli, redaction
from interformer_rec.config import run as config
from tests.training.conftest import SMALL

KEY = "S1gn/ature+42"
FOLDER = "hidden-folder-5309"


@pytest.fixture
def secret_config(synthetic, tmp_path, monkeypatch):
    """A config file whose references hold secrets, and the place of its checkpoints."""
    (tmp_path / FOLDER).symlink_to(synthetic)
    monkeypatch.setenv("SIG", quote(KEY, safe=""))
    monkeypatch.setenv("DATA", str(tmp_path / FOLDER))
    monkeypatch.setenv("ROWS", "128")
    tree = yaml.safe_load((synthetic / "config.yaml").read_text())
    tree["data"] |= {
        "train": "file://${DATA}/train?sig=${SIG}",
        "valid": "${DATA}/valid.parquet",
        "batch_size": "${ROWS}",
    }
    tree["training"] = {
        "out": str(tmp_path / "run"),
        "checkpoint": {"path": f"file://{tmp_path}/checkpoints?secret_key=${{SIG}}"},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    yield tmp_path / "config.yaml"
    redaction.forget()


def leaks(*places: Path) -> list[str]:
    """Files below with a secret in their bytes."""
    secrets = [text.encode() for text in (KEY, quote(KEY, safe=""), quote(KEY), FOLDER)]
    files = [file for place in places for file in place.rglob("*") if file.is_file()]
    assert len(files) > 10
    return [str(file) for file in files if any(secret in file.read_bytes() for secret in secrets)]


def options(*more: str) -> list[str]:
    small = [pair for pair in SMALL if not pair.startswith(("data.batch_size", "training.patience"))]
    return [
        part
        for pair in (*small, "training.max_steps=6", "training.eval_every_steps=3", *more)
        for part in ("--set", pair)
    ]


def test_no_byte_of_a_run_has_a_secret(secret_config, tmp_path, capfd, caplog):
    run, test = tmp_path / "run", "data.test=${DATA}/test.parquet"
    command = ["train", str(secret_config), *options(test)]
    assert cli.main(command) == 0
    assert cli.main([*command, "--resume", "--set", "training.max_steps=8"]) == 0
    assert cli.main(["evaluate", str(run), "--trust-run"]) == 0
    assert cli.main(["evaluate", str(run), "--trust-run", "--json"]) == 0
    assert cli.main(["config", str(secret_config), *options(test)]) == 0
    elsewhere = options(f"training.out={tmp_path}/other", "training.checkpoint.path=null")
    for broken in (
        "data.valid=${DATA}/none.parquet",
        "data.train=file://${DATA}/x?sig=${SIG}",
        "data.batch_size=${SIG}",
    ):
        assert cli.main(["train", str(secret_config), "--debug", *elsewhere, "--set", broken]) == 2
    assert cli.main(["evaluate", str(run)]) == 2
    said = "".join((*capfd.readouterr(), caplog.text))
    assert KEY not in said and quote(KEY, safe="") not in said and FOLDER not in said
    assert "${DATA}/none.parquet" in said and "set ROWS as it was in training and add --trust-run" in said

    assert leaks(run, tmp_path / "checkpoints") == []
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert saved["data"]["train"] == "file://${DATA}/train?sig=${SIG}" and saved["data"]["batch_size"] == "${ROWS}"
    replayed = config.load(run / "config.yaml")
    assert replayed.data.train == f"file://{tmp_path}/{FOLDER}/train?sig={quote(KEY, safe='')}"
    assert (replayed.data.batch_size, replayed.data.test) == (128, f"{tmp_path}/{FOLDER}/test.parquet")


def test_a_credential_in_the_config_or_in_set_is_refused(secret_config, capfd):
    for wrong in (
        f"data.train=s3://key:{KEY}@bucket/x",
        f"training.out=az://box/x?sas_token={KEY}",
        f"data.test=s3://b/x?secret_key={KEY}",
    ):
        assert cli.main(["train", str(secret_config), *options(wrong)]) == 2
        said = capfd.readouterr().err
        assert (
            KEY not in said and "put the credential into an environment variable and write ${NAME} in its place" in said
        )


def test_a_credential_of_the_command_line_is_not_printed(trained_run, capfd, tmp_path):
    where = f"s3://key:{KEY}@bucket/x?endpoint_override=127.0.0.1:1&scheme=http"
    redaction.forget()
    for command in (
        ["evaluate", str(trained_run), "--data", f"https://host/x?sig={KEY}"],
        ["predict", str(trained_run), "--data", f"unknown://me:{KEY}@host/x", "--out", str(tmp_path / "s.parquet")],
        ["inspect", f"unknown://{where}"],
        ["evaluate", where.replace("s3://", "unknown://")],
    ):
        assert cli.main([*command, "--debug"]) in (1, 2)
        said = "".join(capfd.readouterr())
        assert "***" in said and KEY not in said, command
