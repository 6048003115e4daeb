"""Runs that were trained for a few steps, what was exported of them, and servers of that: in a thread, or as processes."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from interformer_rec.serving import artefact
from interformer_rec.serving.arguments import ExportOptions
from interformer_rec.serving.engine.opening import opened
from interformer_rec.serving.export import export
from interformer_rec.serving.server.settings import Settings
from interformer_rec.training import run
from tests.made_once import made_once
from tests.serving.server.client import Client, wait_for
from tests.serving.server.in_thread import Server
from tests.training.conftest import began, synthetic  # noqa: F401 - fixtures
from tests.training.runs import SHORT, settings

Start = Callable[..., Server]


@pytest.fixture(scope="session")
def exported(began, tmp_path_factory):  # noqa: F811
    """(run folder, artefact's folder, what export said), with the modules as they are for graphs. Not to be changed."""

    def make(folder):
        out = folder / "served"
        return began[1], out, export(str(began[1]), str(out), ExportOptions(runtime="eager"))

    return made_once(tmp_path_factory, "exported", make)


@pytest.fixture(scope="session")
def split_run(
    began,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The folder of a trained run whose model is split. Not to be changed."""
    tree = copy.deepcopy(began[0])
    tree["model"] = {**tree.get("model", {}), "split": True}

    def make(folder: Path) -> Path:
        assert run.train(settings(tree, folder / "run", *SHORT)) == 0
        return folder / "run"

    return made_once(tmp_path_factory, "split", make)


@pytest.fixture(scope="session")
def served(split_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported split model. Not to be changed."""

    def make(folder: Path) -> Path:
        export(str(split_run), str(folder / "served"), ExportOptions(runtime="eager"))
        return folder / "served"

    return made_once(tmp_path_factory, "served", make)


@pytest.fixture(scope="session")
def golden(served: Path) -> list[dict[str, Any]]:
    """Rows with the scores that `interformer predict` gives them."""
    return artefact.open(str(served)).golden()


@pytest.fixture
def start() -> Iterator[Start]:
    """start(path, **settings) -> a server in a thread; it ends with the test. By default no request is late on a busy machine."""
    running: list[Server] = []

    def begin(path: Path, **more: Any) -> Server:
        defaults: dict[str, Any] = {"port": 0, "drain_seconds": 0.0, "deadline_ms": 60_000.0}
        server = Server(Settings(path=str(path), **(defaults | more)), opened)
        running.append(server)
        return server

    yield begin
    for server in running:
        server.stop()


@pytest.fixture
def server(start: Start, served: Path) -> Server:
    """One with the defaults."""
    return start(served)


@pytest.fixture
def launched(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[bytes], Client]]]:
    """launched(path, *options) -> (`interformer serve` as a process, a client of it once it is ready). A deadline as above."""
    processes: list[subprocess.Popen[bytes]] = []

    def begin(path: Path, *options: str) -> tuple[subprocess.Popen[bytes], Client]:
        log = tmp_path / f"serve{len(processes)}.log"
        command = [
            sys.executable,
            "-m",
            "interformer_rec",
            "serve",
            str(path),
            "--port",
            "0",
            "--deadline-ms",
            "60000",
            *options,
        ]
        with log.open("wb") as sink:
            process = subprocess.Popen(command, stderr=sink, env={**os.environ, "OMP_NUM_THREADS": "1"})
        processes.append(process)
        return process, Client(wait_for(log, process))

    yield begin
    for process in processes:
        process.kill()
        process.wait()


@dataclass(frozen=True)
class Published:
    """A folder with a version, two deltas to it, and current.json as it was after each of the three."""

    place: Path
    checkpoints: list[Path]  # of each state
    said: list[dict[str, Any]]  # what export said of each
    pointers: list[bytes]

    def copied(self, to: Path, at: int = 2) -> Path:
        """A copy to change, whose current state is number `at`."""
        place = Path(shutil.copytree(self.place, to / "served"))
        self.point(place, at)
        return place

    def point(self, place: Path, at: int) -> None:
        """Swap current.json."""
        (place / "next.json").write_bytes(self.pointers[at])
        (place / "next.json").replace(place / "current.json")


@pytest.fixture(scope="session")
def checkpoints(began, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:  # noqa: F811
    """Three of one run whose model is split, a few steps apart; the second one is incremental. Not to be changed."""
    tree = copy.deepcopy(began[0])
    tree["model"] = {**tree.get("model", {}), "split": True}
    steps = ["training.max_steps=6", "training.checkpoint.every_steps=2", "training.checkpoint.keep=3"]
    # two steps of few rows look up less than half of a table: the second checkpoint holds touched rows
    steps += ["training.checkpoint.full_every=2", "data.batch_size=8"]

    def make(folder: Path) -> list[Path]:
        assert run.train(settings(tree, folder / "run", *SHORT, *steps)) == 0
        return sorted((folder / "run" / "checkpoints").glob("step-*"))

    return made_once(tmp_path_factory, "steps", make)


@pytest.fixture(scope="session")
def published(checkpoints: list[Path], began, tmp_path_factory: pytest.TempPathFactory) -> Published:  # noqa: F811
    """Made with the modules as they are for graphs. Not to be changed."""

    def make(folder: Path) -> Published:
        place, said, pointers = folder / "served", [], []
        for at, checkpoint in enumerate(checkpoints):
            data = began[0]["data"]["valid"]
            options = ExportOptions(delta=True) if at else ExportOptions(runtime="eager")
            said.append(export(str(checkpoint), str(place), options, data))
            pointers.append((place / "current.json").read_bytes())
        return Published(place, checkpoints, said, pointers)

    return made_once(tmp_path_factory, "published", make)
