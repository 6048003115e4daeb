"""Signals that ask a run to stop: saved, and the exit code says which."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from interformer_rec.config.run import RunConfig
from interformer_rec.training import run
from interformer_rec.training.log_interval import LogInterval
from interformer_rec.training.stopping import STOP_SIGNALS, StopRequest
from tests.training.runs import TWO_RANKS, records, save_config


@pytest.fixture
def ignored_hangup() -> Iterator[None]:
    """What `nohup` does."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_the_first_signal_is_remembered_and_handlers_come_back(number: int) -> None:
    before = {one: signal.getsignal(one) for one in STOP_SIGNALS}
    with StopRequest().listen() as request:
        os.kill(os.getpid(), number)
        assert request.signal == number
    assert before == {one: signal.getsignal(one) for one in STOP_SIGNALS}


def test_nohup_lets_a_run_live_but_not_against_its_agent(ignored_hangup: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with StopRequest().listen() as request:
        os.kill(os.getpid(), signal.SIGHUP)
        assert request.signal == 0
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a-job")
    with StopRequest().listen() as request:
        os.kill(os.getpid(), signal.SIGHUP)
        assert request.signal == signal.SIGHUP


@pytest.mark.parametrize("number", [signal.SIGHUP])
def test_a_hangup_saves_and_ends_the_run_like_sigterm(
    small: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    exchange = LogInterval.exchange

    def hang_up(interval: LogInterval, events: bool) -> dict[str, float]:
        os.kill(os.getpid(), number)
        return exchange(interval, events)

    monkeypatch.setattr(LogInterval, "exchange", hang_up)
    assert run.train(small("training.log_every_steps=1", "data.valid=null", "data.test=null")) == 128 + number
    folder = tmp_path / "run"
    step = records(folder, "train")[-1]["step"]
    assert step < 12
    assert (folder / "checkpoints" / f"step-{step:08d}" / "manifest.json").exists()
    monkeypatch.undo()
    assert run.train(small("training.max_steps=12", "data.valid=null", "data.test=null"), resume=True) == 0


@pytest.mark.slow
def test_a_hangup_of_torchrun_reaches_the_ranks(small: Callable[..., RunConfig], tmp_path: Path) -> None:
    path = save_config(small, tmp_path, "training.epochs=400", "training.log_every_steps=1", "data.valid=null")
    folder = tmp_path / "run"
    process = subprocess.Popen([*TWO_RANKS, "train", str(path)], stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not ((folder / "metrics.jsonl").exists() and records(folder, "train")):
        time.sleep(0.05)
    process.send_signal(signal.SIGHUP)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0 and "signal 1: saving at step" in errors, errors
    step = records(folder, "train")[-1]["step"]
    assert (folder / "checkpoints" / f"step-{step:08d}" / "manifest.json").exists()
    assert not list(folder.rglob("lock*")), sys.platform
