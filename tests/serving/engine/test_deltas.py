"""Deltas beneath a running server: each state answers as it was published, and what is damaged or of another state never does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interformer_rec.errors import DamagedError
from interformer_rec.serving.arguments import ExportOptions
from interformer_rec.serving.engine import versions
from interformer_rec.serving.engine.opening import state
from interformer_rec.serving.export import export
from interformer_rec.serving.published import pointer
from interformer_rec.serving.published.manifest import declare
from interformer_rec.serving.published.state import State
from tests.serving.engine.test_versions import flip
from tests.serving.server.client import eventually


def scores(server, golden) -> list[float]:
    return server.post("/v1/score", {"rows": [one["row"] for one in golden]})["scores"]["label"]


def wanted(golden) -> list[float]:
    return [one["scores"]["label"] for one in golden]


def tensors(server, row) -> dict[str, Any]:
    """The answer to one row as tensors."""
    model = server.get(f"/v2/models/{server.get('/v1/status')['model']}")
    inputs = []
    for one in model["inputs"]:
        lists = len(one["shape"]) == 2
        shape, data = ([1, len(row[one["name"]])], row[one["name"]]) if lists else ([1], [row[one["name"]]])
        inputs.append({"name": one["name"], "datatype": one["datatype"], "shape": shape, "data": data})
    return server.post(f"/v2/models/{model['name']}/infer", {"inputs": inputs})


def following(server, deltas: int) -> Callable[[], bool]:
    return lambda: server.get("/v1/status")["deltas"] == deltas


def test_a_server_follows_deltas_and_returns(start, published, tmp_path):
    place = published.copied(tmp_path, at=0)
    server = start(place, watch=0.05)
    golden = State.open(str(published.place)).golden()
    assert server.post("/v1/score", {"rows": [golden[0]["row"]]})["delta"] is None
    assert "parameters" not in tensors(server, golden[0]["row"])
    seen = {0: scores(server, golden)}
    for at in (1, 2, 1, 0, 2, 1):
        published.point(place, at)
        eventually(following(server, at))
        seen.setdefault(at, scores(server, golden))
        assert scores(server, golden) == seen[at]
    assert len({tuple(found) for found in seen.values()}) == 3
    np.testing.assert_allclose(seen[2], wanted(golden), atol=1e-6)
    answer = server.post("/v1/score", {"rows": [golden[0]["row"]]})
    assert (answer["version"], answer["delta"]) == (published.said[1]["version"], published.said[1]["delta"])
    assert tensors(server, golden[0]["row"])["parameters"] == {"delta": published.said[1]["delta"]}
    status = server.get("/v1/status")
    assert (status["delta"], status["refused"]) == (published.said[1]["delta"], {})
    assert status["previous"].endswith(published.said[2]["delta"])
    assert "interformer_deltas 1.0" in server.get("/metrics")
    assert 'interformer_version_loads_total{outcome="delta"}' in server.get("/metrics")
    assert published.said[1]["delta"] in server.get("/")


def test_a_server_starts_at_the_newest_delta(start, published, tmp_path):
    place = published.copied(tmp_path)
    server = start(place)
    golden = State.open(str(place)).golden()
    assert server.get("/v1/status")["deltas"] == 2
    np.testing.assert_allclose(scores(server, golden), wanted(golden), atol=1e-6)


def test_users_whose_state_was_kept_are_computed_anew(start, published, tmp_path):
    place = published.copied(tmp_path, at=1)
    server = start(place, watch=0.05)
    body = {**server.service.versions.current.example, "user_key": "ann"}
    server.post("/v1/rank", body)
    assert server.post("/v1/rank", body)["user_cached"]
    published.point(place, 2)
    eventually(following(server, 2))
    alone = {name: value for name, value in body.items() if name != "user"}
    assert server.refused("/v1/rank", alone)[0] == 409
    answer = server.post("/v1/rank", body)
    assert not answer["user_cached"]
    rows = [{**body["user"], **candidate} for candidate in body["candidates"]]
    whole = server.post("/v1/score", {"rows": rows})["scores"]["label"]
    np.testing.assert_allclose(answer["scores"]["label"], whole, atol=1e-6)


DAMAGE = {
    "a byte of the rows": lambda folder: flip(next((folder / "tables").glob("*.safetensors")), -1),
    "a byte of the weights": lambda folder: flip(folder / "dense.safetensors", -1),
    "a golden score": lambda folder: flip(folder / "golden.jsonl", -20),
    "a byte of delta.json": lambda folder: flip(folder / "delta.json", 30),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "no delta": shutil.rmtree,
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_delta_never_answers_and_the_next_full_version_does(start, published, began, tmp_path, what):
    place = published.copied(tmp_path, at=1)
    server = start(place, watch=0.05)
    golden = State.open(str(place)).golden()
    DAMAGE[what](place / "deltas" / published.said[2]["delta"])
    published.point(place, 2)
    eventually(lambda: any(published.said[2]["delta"] in name for name in server.get("/v1/status")["refused"]))
    status = server.get("/v1/status")
    assert (status["deltas"], status["ready"]) == (1, True)
    np.testing.assert_allclose(scores(server, golden), wanted(golden), atol=1e-6)
    if what == "no delta":
        said = export(
            str(published.checkpoints[2]), str(place), ExportOptions(delta=True), data=began[0]["data"]["valid"]
        )
        eventually(lambda: server.get("/v1/status")["version"] == said["version"])
        assert server.get("/v1/status")["refused"] == {}


def test_a_server_whose_deltas_are_lost_starts_with_the_version(start, published, tmp_path, monkeypatch):
    monkeypatch.setattr(versions, "AGAIN", 0.2)
    place = published.copied(tmp_path)
    lost = place / "deltas" / published.said[1]["delta"]
    kept = Path(shutil.move(lost, tmp_path / "lost"))
    server = start(place, watch=0.05)
    status = server.get("/v1/status")
    assert (status["deltas"], status["ready"]) == (0, True)
    assert any("was never finished, or removed" in why for why in status["refused"].values())
    shutil.move(kept, lost)
    eventually(following(server, 2))


def rewritten(place: Path, name: str, change: Callable[[dict], None]) -> None:
    """delta.json changed, and declared whole again, as somebody could who means harm."""
    folder = place / "deltas" / name
    said = json.loads((folder / "delta.json").read_text(encoding="utf-8"))
    change(said)
    (folder / "delta.json").write_text(json.dumps(said), encoding="utf-8")
    sha256 = declare(folder)
    now = json.loads((place / "current.json").read_text(encoding="utf-8"))
    now["delta"]["sha256"] = sha256
    (place / "current.json").write_text(json.dumps(now), encoding="utf-8")


def first_table(said: dict) -> dict:
    return next(iter(said["tables"].values()))


WRONG = {
    "another version": (lambda said: said["before"].update(version="other"), "is of version 'other', not of"),
    "another manifest": (lambda said: said["before"].update(version_sha256="0" * 64), "is of version"),
    "a name that leads out": (lambda said: said["before"].update(delta="../x"), "which is refused"),
    "its own name": (lambda said: said.update(id="other"), "is of delta 'other'"),
    "a place in the chain": (lambda said: said.update(sequence=7), "number 7"),
    "a table": (lambda said: said["tables"].update(ghost=first_table(said)), "table 'ghost'"),
    "a width": (lambda said: first_table(said).update(width=3), "which version .* does not have so"),
    "a number of rows": (lambda said: first_table(said).update(rows=1), "does not hold 1 rows"),
    "graphs": (lambda said: said.update(graphs=["onnx"]), "graphs onnx, which version"),
    "a vocabulary": (lambda said: said["vocabularies"].update(items="vocabularies/0.parquet"), "which does not grow"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_a_delta_says_of_itself_is_not_believed(published, tmp_path, what):
    change, message = WRONG[what]
    place = published.copied(tmp_path)
    rewritten(place, published.said[2]["delta"], change)
    with pytest.raises(DamagedError, match=message):
        state(str(place), pointer.current(str(place)))
