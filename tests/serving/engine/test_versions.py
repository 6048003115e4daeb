"""Versions change beneath a running server: the good one answers, the damaged one never."""

from __future__ import annotations

import json
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from interformer_rec.errors import DamagedError
from interformer_rec.serving.arguments import ExportOptions
from interformer_rec.serving.engine import opening, versions
from interformer_rec.serving.engine.cache import StateCache
from interformer_rec.serving.engine.engine import Engine
from interformer_rec.serving.engine.meters import Meters
from interformer_rec.serving.engine.opening import load
from interformer_rec.serving.engine.versions import FLOOR, SLOWER, Versions
from interformer_rec.serving.export import export
from interformer_rec.serving.published import pointer
from interformer_rec.serving.server.service import ask_of
from tests.serving.server.client import eventually


@pytest.fixture(scope="session")
def two(split_run, served, tmp_path_factory) -> tuple[Path, str, str]:
    """A folder with two versions; the first is the current one. To be copied."""
    place = tmp_path_factory.mktemp("two") / "served"
    shutil.copytree(served, place)
    first = pointer.current(str(place)).version
    before = (place / "current.json").read_bytes()
    second = export(str(split_run), str(place), ExportOptions(tables="fp16", runtime="eager"))["version"]
    (place / "next.json").write_bytes((place / "current.json").read_bytes())
    (place / "current.json").write_bytes(before)
    return place, first, second


@pytest.fixture
def place(two, tmp_path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(two[0], tmp_path / "served"))


def test_the_next_version_answers_after_current_json_and_the_one_before_again(start, place, two, golden):
    server = start(place, watch=0.05)
    body = {"rows": [one["row"] for one in golden]}
    first = server.post("/v1/score", body)
    assert first["version"] == two[1]
    before = (place / "current.json").read_bytes()
    (place / "next.json").replace(place / "current.json")
    eventually(lambda: server.get("/v1/status")["version"] == two[2])
    second = server.post("/v1/score", body)
    assert second["version"] == two[2]
    np.testing.assert_allclose(second["scores"]["label"], first["scores"]["label"], atol=1e-3)
    assert second["scores"] != first["scores"]
    status = server.get("/v1/status")
    assert status["previous"] == two[1]
    shutil.rmtree(place / "versions" / two[1] / "graphs", ignore_errors=True)
    (place / "current.json").write_bytes(before)  # a return needs no loading
    eventually(lambda: server.get("/v1/status")["version"] == two[1])
    assert server.post("/v1/score", body)["scores"] == first["scores"]
    assert f'interformer_version{{version="{two[1]}"}} 1.0' in server.get("/metrics")


def test_requests_of_both_versions_in_one_batch_are_scored_by_their_own(start, place, two, golden):
    server = start(place)
    old, new = server.service.versions.current, load(str(place), two[2])
    rows = [golden[0]["row"]]
    inputs = [(one, one.encoder.score(rows)) for one in (old, new, old)]
    scores = [result.values for result in Engine(StateCache(0))([ask_of(one, found) for one, found in inputs])]
    np.testing.assert_array_equal(scores[0], scores[2])
    assert not np.array_equal(scores[0], scores[1])


DAMAGE = {
    "a byte of a table": lambda folder: flip(next((folder / "tables").glob("*.safetensors")), -1),
    "a byte of the weights": lambda folder: flip(folder / "dense.safetensors", -1),
    "a golden score": lambda folder: flip(folder / "golden.jsonl", -20),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "no config": lambda folder: (folder / "config.yaml").unlink(),
    "no version": shutil.rmtree,
}


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_version_never_answers(start, place, two, what):
    server = start(place, watch=0.05)
    DAMAGE[what](place / "versions" / two[2])
    (place / "next.json").replace(place / "current.json")
    eventually(lambda: two[2] in server.get("/v1/status")["refused"])
    status = server.get("/v1/status")
    assert status["version"] == two[1] and status["ready"]
    with pytest.raises(DamagedError):
        load(str(place), two[2])


def test_a_refused_version_is_tried_again_later(start, place, two, monkeypatch):
    monkeypatch.setattr(versions, "AGAIN", 0.2)
    server = start(place, watch=0.05)
    manifest = place / "versions" / two[2] / "manifest.json"
    content = manifest.read_bytes()
    manifest.unlink()
    (place / "next.json").replace(place / "current.json")
    eventually(lambda: two[2] in server.get("/v1/status")["refused"])
    manifest.write_bytes(content)
    eventually(lambda: server.get("/v1/status")["version"] == two[2])
    assert server.get("/v1/status")["refused"] == {}


@pytest.mark.parametrize(("times", "answers"), [(0.9 * SLOWER, True), (1.1 * SLOWER, False)])
def test_a_version_that_is_far_slower_never_answers(place, two, times, answers):
    present, following = (replace(load(str(place), name), golden_seconds=2 * FLOOR) for name in two[1:])
    following = replace(following, golden_seconds=times * present.golden_seconds)
    now = pointer.Current(format=pointer.WHOLE, version=two[2], sha256="0" * 64)
    found = Versions(lambda: now, lambda now, present: following, Meters(), first=present)
    with ThreadPoolExecutor() as scoring:
        assert found.look(scoring.submit) == answers
    assert found.current.version == (two[2] if answers else two[1])
    assert answers or "s of CPU time for its golden requests" in found.refused[two[2]]


def test_a_version_is_not_slow_because_the_machine_is(place, two, monkeypatch):
    """A wait is what other processes on a machine, and requests beside the load, add to the time of day."""
    ask = opening.check

    def later(*args):
        time.sleep(0.5)
        ask(*args)

    monkeypatch.setattr(opening, "check", later)
    assert load(str(place), two[1]).golden_seconds < 0.4


def test_a_current_json_that_is_none_is_named_and_forgotten_once_it_is_whole(start, place, two):
    server = start(place, watch=0.05)
    whole = (place / "next.json").read_bytes()
    for content in (b"", b"{", b'{"version": "../../x"}', json.dumps({"format": 1, "version": "none"}).encode()):
        (place / "current.json").write_bytes(content)
        eventually(lambda: "current.json" in server.get("/v1/status")["refused"])
    (place / "current.json").write_bytes(whole)
    eventually(lambda: server.get("/v1/status")["version"] == two[2])
    assert server.get("/v1/status")["refused"] == {}


def test_no_request_fails_while_versions_change(start, place, two, golden):
    server = start(place, watch=0.05)
    files = {two[1]: (place / "current.json").read_bytes(), two[2]: (place / "next.json").read_bytes()}
    ended, failures, seen = threading.Event(), [], set()

    def ask() -> None:
        while not ended.is_set():
            status, content, _ = server("POST", "/v1/score", {"rows": [golden[0]["row"]]})
            seen.add(content.get("version"))
            if status != 200:
                failures.append(content)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for version in (two[2], two[1], two[2]):
        (place / "current.json").write_bytes(files[version])
        eventually(lambda version=version: server.service.versions.current.version == version)
    ended.set()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert seen == {two[1], two[2]}
