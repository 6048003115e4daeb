"""Real workers: one that is killed, one that is stopped, two side by side; the study is what one worker would have made of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest

from interformer_rec import cli
from interformer_rec.tuning.store import open_store
from tests.tuning.conftest import TRIALS, content, sets

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture
def argv(config: Path, space: Path, tmp_path: Path) -> list[str]:
    options = ["--trials", str(TRIALS), "--space", str(space), "--out", str(tmp_path / "out"), "--resume"]
    return ["tune", str(config), *sets(), *options]


def start(argv: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "interformer_rec.cli", *argv]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_an_evaluation(process: subprocess.Popen[str], out: Path, trial: int) -> None:
    """Until this trial runs and has reported a value."""
    while process.poll() is None:
        if (out / "study.journal").exists():
            store, _ = open_store(None, out)
            trials = optuna.load_study(study_name="synthetic", storage=store).trials if store.get_all_studies() else []
            if len(trials) > trial and trials[trial].intermediate_values:
                return
        time.sleep(0.05)
    raise AssertionError(process.communicate())


def values(out: Path) -> dict[str, Any]:
    return {json.dumps(trial["settings"]): (trial["state"], trial["value"]) for trial in content(out)["trials"]}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_ended_leaves_a_study_that_goes_on_as_it_would_have(
    number: signal.Signals, argv: list[str], study: Path, tmp_path: Path, capfd: pytest.CaptureFixture
):
    out = tmp_path / "out"
    process = start(argv)
    wait_for_an_evaluation(process, out, 1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert number == signal.SIGKILL or "--resume goes on" in errors
    assert cli.main(argv) == 0
    printed = capfd.readouterr().out
    assert number != signal.SIGKILL or "1 trials of workers that were gone" in printed
    assert values(out) == values(study)
    names = [trial["trial"] for trial in content(out)["trials"]]
    assert sorted(names)[:2] == ["0000", "0001"] and len(names) == TRIALS
    assert (out / "trials" / "0001" / "log.txt").read_text().count(
        "epoch 0 begins"
    ) == 1  # it went on from a checkpoint


def test_two_workers_on_one_storage_do_each_trial_once(argv: list[str], tmp_path: Path):
    storage = ["--storage", f"sqlite:///{tmp_path / 'study.db'}"]
    workers = [start([*argv, *storage]) for _ in range(2)]
    ended = [worker.communicate(timeout=300) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], ended
    found = content(tmp_path / "out")
    assert len(found["trials"]) == len(values(tmp_path / "out")) == TRIALS
    lines = [[line for line in out.splitlines() if line.startswith("trial ")] for out, _ in ended]
    assert sorted(line.split()[1] for line in [*lines[0], *lines[1]]) == sorted(t["trial"] for t in found["trials"])
    assert all(lines), "each did some"


def test_a_trial_whose_process_is_killed_is_one_that_failed(argv: list[str], tmp_path: Path):
    process = start(argv)
    out = tmp_path / "out"
    wait_for_an_evaluation(process, out, 0)
    holder = json.loads((out / "trials" / "0000" / "lock.json").read_text())
    os.kill(holder["pid"], signal.SIGKILL)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    assert "failed: its process ended by signal 9 (out of memory?)" in said
    assert content(out)["counts"]["failed"] == 1 and len(content(out)["trials"]) == TRIALS
