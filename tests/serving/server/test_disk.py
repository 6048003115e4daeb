"""The files of a version that answers go, are replaced or cut short: what is mapped answers on, and what is gone makes no score."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from interformer_rec.serving import artefact
from tests.serving.server.client import eventually, lines, wait_for
from tests.serving.server.test_load import Load

pytestmark = pytest.mark.release
ABOUT = "current.json"


@pytest.fixture
def place(served, tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(served, tmp_path / "served"))


def test_the_folder_goes_and_comes_back_while_it_answers(launched, place, golden, tmp_path):
    process, client = launched(place, "--watch", "0.05")
    body = {"rows": [one["row"] for one in golden]}
    wanted = client.post("/v1/score", body)["scores"]
    with Load(lambda: client("POST", "/v1/score", body)) as load:
        place.rename(tmp_path / "away")
        eventually(lambda: ABOUT in client.get("/v1/status")["refused"])
        after = len(load.contents)
        eventually(lambda: len(load.contents) > after + 20)
        (tmp_path / "away").rename(place)
        eventually(lambda: not client.get("/v1/status")["refused"])
    assert load.failures == []
    assert all(content["scores"] == wanted for content in load.contents)
    assert process.poll() is None and client.get("/v2/health/ready")["ready"]


def test_files_that_are_deleted_or_replaced_change_no_score(launched, place, golden):
    """As a copy over the folder does it, or `rm`: what is mapped stays."""
    process, client = launched(place, "--watch", "0.05")
    body = {"rows": [one["row"] for one in golden]}
    wanted = client.post("/v1/score", body)["scores"]
    folder = artefact.open(str(place)).folder
    with Load(lambda: client("POST", "/v1/score", body)) as load:
        for number, path in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
            path.unlink()
            if number % 2:
                path.write_bytes(b"damaged")
        after = len(load.contents)
        eventually(lambda: len(load.contents) > after + 20)
    assert load.failures == []
    assert all(content["scores"] == wanted for content in load.contents)
    assert process.poll() is None


@pytest.mark.parametrize("workers", [1, 2])
def test_a_table_that_is_cut_short_in_place_ends_the_server(launched, place, golden, tmp_path, workers):
    """Rows that are gone cannot be read: the worker is ended by the system, and a new one finds what is wrong."""
    process, client = launched(place, "--workers", str(workers), "--drain-seconds", "0")
    wait_for(tmp_path / "serve0.log", process, workers=workers)
    body = {"rows": [one["row"] for one in golden]}
    wanted = client.post("/v1/score", body)["scores"]
    cut = sorted((artefact.open(str(place)).folder / "tables").iterdir())
    for path in cut:
        with path.open("r+b") as file:
            file.truncate(0)
    for _ in range(2 * workers):
        with suppress(OSError, http.client.HTTPException):
            status, content, _ = client("POST", "/v1/score", body)
            assert (status, content["scores"]) == (200, wanted)  # of rows that were copied before the cut
    eventually(lambda: process.poll() is not None)
    if workers == 1:
        assert process.returncode == -signal.SIGBUS
        return
    assert process.returncode == 2
    log = (tmp_path / "serve0.log").read_text(encoding="utf-8")
    assert "has 0 bytes" in log and cut[0].name in log
    ends = [line for line in lines(tmp_path / "serve0.log") if line["event"] in ("worker_died", "worker_failed")]
    assert {line["status"] for line in ends} >= {-signal.SIGBUS, 2}, json.dumps(ends)
