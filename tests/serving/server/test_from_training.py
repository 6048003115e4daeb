"""A run follows windows, a server follows the run, clients ask all the time; both are killed at random, and no answer is ever wrong.

What is right is worked out afterwards, from the states that current.json named one after the other.
"""

from __future__ import annotations

import http.client
import os
import random
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from interformer_rec.config import run as run_config
from interformer_rec.serving.arguments import ExportOptions
from interformer_rec.serving.encode.encoder import Encoder
from interformer_rec.serving.export import export
from interformer_rec.serving.published import pointer
from interformer_rec.serving.published.state import State, scorer_after
from interformer_rec.serving.scorer import probabilities
from interformer_rec.training import run
from tests.forked import begin
from tests.serving.server.client import Client, eventually
from tests.serving.server.test_load import Load
from tests.training.runs import records
from tests.training.windows.drifting import file_of, settings, write_windows

pytestmark = pytest.mark.release

DAYS, KILLS_A_DAY = 6, 5  # none on the first day, and none on the last
SEED = 11
PATIENCE = 240.0  # seconds; a publication starts a process, and the machine may be busy

Asked = list[dict[str, Any]]


class Pointers:
    """What current.json named, oldest first, while the block ran."""

    def __init__(self, place: Path) -> None:
        self.file, self.found, self._ended = place / "current.json", [], threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            if self.file.exists() and (content := self.file.read_bytes()) not in self.found[-1:]:
                self.found.append(content)

    def __enter__(self) -> Pointers:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()


def scores(state: State, rows: Asked) -> list[float]:
    """Without a server."""
    version = state.version
    scorer = scorer_after(version.scorer(), version, state.deltas, version.preferred)
    inputs = Encoder(version.config.features, state.fitted, version.signature).score(rows)
    return probabilities(scorer(inputs))[:, 0].tolist()


def made_of(state: State) -> str:
    """The checkpoint; a version is called by it."""
    return state.deltas[-1].said.checkpoint if state.deltas else re.findall(r"step-\d{8}", state.now.version)[0]


@pytest.mark.usefixtures("capfd")
def test_trainer_and_server_are_killed_twenty_times_and_nothing_wrong_is_served(launched, tmp_path):
    windows, place, generator = tmp_path / "windows", tmp_path / "served", random.Random(SEED)
    write_windows(windows, 0)
    publish = [f"publish.to={place}", "publish.runtime=eager", "publish.full_every=4", "publish.keep=99"]
    config = settings(windows, tmp_path / "run", "training.poll_seconds=0.1", "training.hang_seconds=60", *publish)
    (tmp_path / "config.yaml").write_text(run_config.to_yaml(config), encoding="utf-8")
    rows = [
        {key: value for key, value in row.items() if key != "click"}
        for day in range(DAYS)
        for row in pq.read_table(file_of(write_windows(tmp_path / "all", day), day)).slice(0, 2).to_pylist()
    ]
    servers: list[Any] = []
    trainers = [begin("train", tmp_path / "config.yaml", "--follow")]

    def serve() -> None:
        servers.append(launched(place, "--watch", "0.05"))

    def ask() -> tuple[int, Any, dict[str, str]]:
        client: Client = servers[-1][1]
        try:
            return client("POST", "/v1/score", {"rows": rows})
        except (OSError, http.client.HTTPException):
            time.sleep(0.05)  # its successor is not there yet
            raise

    def kill() -> None:
        if generator.random() < 0.5:
            servers[-1][0].kill()
            servers[-1][0].wait()
            serve()
        else:
            trainers[-1].kill()
            trainers[-1].join()
            trainers.append(begin("train", tmp_path / "config.yaml", "--follow", "--resume"))

    def served(day: int) -> bool:
        """The server answers by what was trained on this day."""
        assert trainers[-1].exitcode is None, "the run has ended"
        name = f"step-{(day + 1) * 4:08d}"  # four batches a window
        state = State.open(str(place))
        return made_of(state) == name and serving(servers[-1][1].get("/v1/status")) == serving(state.now.model_dump())

    def serving(named: dict[str, Any]) -> tuple[str, str | None]:
        delta = named.get("delta")
        return named["version"], delta["id"] if isinstance(delta, dict) else delta

    with Pointers(place) as pointers:
        eventually(lambda: (place / "current.json").exists(), PATIENCE)
        serve()
        with Load(ask) as load:
            eventually(lambda: served(0), PATIENCE)
            for day in range(1, DAYS):
                write_windows(windows, day)
                for _ in range(KILLS_A_DAY if day < DAYS - 1 else 0):
                    time.sleep(generator.uniform(0, 4))
                    kill()
                eventually(lambda day=day: served(day), PATIENCE)
        os.kill(trainers[-1].pid, signal.SIGTERM)
        trainers[-1].join(60)
    assert trainers[-1].exitcode == 128 + signal.SIGTERM
    assert all(isinstance(one, (OSError, http.client.HTTPException)) for one in load.failures), load.failures
    assert sorted({one["window"] for one in records(tmp_path / "run", "window")}) == [
        f"hr={day:02}" for day in range(DAYS)
    ]
    expected, steps = {}, []
    for content in pointers.found:
        pointers.file.write_bytes(content)
        state = State.open(str(place))
        expected[serving(state.now.model_dump())] = scores(state, rows)
        steps.append(made_of(state))
    assert steps == sorted(steps) and len(set(steps)) >= DAYS
    answers = {serving(one) for one in load.contents}
    assert answers <= expected.keys() and len(answers) >= DAYS
    for one in load.contents:
        np.testing.assert_allclose(one["scores"]["click"], expected[serving(one)], atol=1e-6)
    newest = expected[serving(pointer.current(str(place)).model_dump())]
    assert run.train(settings(windows, tmp_path / "undisturbed")) == 0
    checkpoint = tmp_path / "undisturbed" / "checkpoints" / steps[-1]
    export(str(checkpoint), str(tmp_path / "whole"), ExportOptions(runtime="eager"), data=str(file_of(windows, 1)))
    np.testing.assert_allclose(scores(State.open(str(tmp_path / "whole")), rows), newest, atol=1e-7)
