"""Runs that were trained for a few steps, what was exported of them, and servers of that: in a thread, or as processes."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from interformer_rec.serving import artefact
from interformer_rec.serving.engine.opening import opened
from interformer_rec.serving.export import export
from interformer_rec.serving.server.settings import Settings
from interformer_rec.training import run
from tests.serving.server.client import Client, wait_for
from tests.serving.server.in_thread import Server
from tests.training.conftest import began, synthetic  # noqa: F401 - fixtures
from tests.training.runs import SHORT, settings

Start = Callable[..., Server]


@pytest.fixture(scope="session")
def exported(began, tmp_path_factory):  # noqa: F811
    """(run folder, artefact's folder, what export said), with the modules as they are for graphs. Not to be changed."""
    out = tmp_path_factory.mktemp("exported") / "served"
    return began[1], out, export(str(began[1]), str(out), runtime="eager")


@pytest.fixture(scope="session")
def split_run(
    began,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The folder of a trained run whose model is split. Not to be changed."""
    tree = copy.deepcopy(began[0])
    tree["model"] = {**tree.get("model", {}), "split": True}
    folder = tmp_path_factory.mktemp("split") / "run"
    assert run.train(settings(tree, folder, *SHORT)) == 0
    return folder


@pytest.fixture(scope="session")
def served(split_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported split model. Not to be changed."""
    out = tmp_path_factory.mktemp("served") / "served"
    export(str(split_run), str(out), runtime="eager")
    return out


@pytest.fixture(scope="session")
def golden(served: Path) -> list[dict[str, Any]]:
    """Rows with the scores that `interformer predict` gives them."""
    return artefact.open(str(served)).golden()


@pytest.fixture
def start() -> Iterator[Start]:
    """start(path, **settings) -> a server in a thread; it ends with the test."""
    running: list[Server] = []

    def begin(path: Path, **more: Any) -> Server:
        server = Server(Settings(path=str(path), port=0, drain_seconds=0.0, **more), opened)
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
    """launched(path, *options) -> (`interformer serve` as a process, a client of it once it is ready)."""
    processes: list[subprocess.Popen[bytes]] = []

    def begin(path: Path, *options: str) -> tuple[subprocess.Popen[bytes], Client]:
        log = tmp_path / f"serve{len(processes)}.log"
        command = [sys.executable, "-m", "interformer_rec", "serve", str(path), "--port", "0", *options]
        with log.open("wb") as sink:
            process = subprocess.Popen(command, stderr=sink, env={**os.environ, "OMP_NUM_THREADS": "1"})
        processes.append(process)
        return process, Client(wait_for(log, process))

    yield begin
    for process in processes:
        process.kill()
        process.wait()
