"""A run that publishes: after each window servers can have what was trained, and it is what an export of the checkpoint would be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.serving.whole_tables import stored_tables
from interformer_rec.serving.arguments import ExportOptions
from interformer_rec.serving.encode.encoder import Encoder
from interformer_rec.serving.export import export
from interformer_rec.serving.published.state import State, scorer_after
from interformer_rec.training import run
from tests.training.runs import records

pytestmark = pytest.mark.slow


def test_each_window_becomes_a_delta_that_is_the_export_of_its_checkpoint(windowed, write, tmp_path, capfd):
    write(0, 1, 2)
    to = tmp_path / "served"
    config = windowed(f"publish.to={to}", "publish.runtime=eager", "training.checkpoint.keep=5")
    assert run.train(config) == 0
    found = records(tmp_path / "run", "publish")
    assert found and not any(one["failed"] for one in found)
    assert "published of step" in capfd.readouterr().err
    last = sorted((tmp_path / "run" / "checkpoints").glob("step-*"))[-1]
    assert found[-1]["step"] == int(last.name.removeprefix("step-"))
    state = State.open(str(to))
    assert state.deltas[-1].said.checkpoint == last.name if state.deltas else len(found) == 1
    said = export(
        str(last),
        str(tmp_path / "full"),
        ExportOptions(runtime="eager"),
        data=str(next(to.parent.glob("windows/*/*.parquet"))),
    )
    full = State.open(str(tmp_path / "full"))
    assert said["version"] == full.now.version
    for name, parts in stored_tables(full).items():
        assert all(part.tobytes() == stored_tables(state)[name][key].tobytes() for key, part in parts.items())
    version, rows = state.version, [one["row"] for one in full.golden()]
    inputs = Encoder(version.config.features, state.fitted, version.signature).score(rows)
    ours = scorer_after(version.scorer(), version, state.deltas, version.preferred)(inputs)
    np.testing.assert_array_equal(ours, full.version.scorer()(inputs))


def test_steps_are_published_and_a_failure_is_named_and_made_up_for(small, tmp_path, capfd):
    to = tmp_path / "served"
    to.mkdir()
    (to / "current.json").write_text("{", encoding="utf-8")
    steps = ["publish.every=5", "training.checkpoint.every_steps=5", "training.max_steps=10", "training.epochs=2"]
    config = small(f"publish.to={to}", "publish.runtime=eager", *steps)
    assert run.train(config) == 0
    found = records(tmp_path / "run", "publish")
    assert found and all(one["failed"] for one in found)
    assert "was not published: " in capfd.readouterr().err
    (to / "current.json").unlink()
    more = small(f"publish.to={to}", "publish.runtime=eager", *steps, "training.max_steps=15")
    assert run.train(more, resume=True) == 0
    assert not records(tmp_path / "run", "publish")[-1]["failed"]
    assert State.open(str(to)).now.version.endswith("step-00000015")
    assert Path(to / "current.json").exists() and json.loads((to / "current.json").read_text(encoding="utf-8"))
