"""A run folder belongs to one job while it trains: who is refused, and what a job does that lost it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from interformer_rec.config import RunConfig
from interformer_rec.errors import InputError
from interformer_rec.storage import Storage
from interformer_rec.training import run, trained
from interformer_rec.training.lock_file import NAME
from interformer_rec.training.run_folder import RunFolder
from interformer_rec.training.run_lock import RunLock, RunLost, whoami
from interformer_rec.training.trainer import Trainer
from tests.training.test_start import snapshot


def test_two_runs_with_one_place_for_checkpoints_meet(small: Callable[..., RunConfig], tmp_path: Path) -> None:
    lock = RunLock([Storage.open(tmp_path / "shared")], 60, print)
    lock.take()
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match=r"shared' is in use"):
        run.train(small(f"training.checkpoint.path={tmp_path}/shared", "training.max_steps=1"))
    assert snapshot(tmp_path) == before
    lock.release()


def test_a_job_ends_before_it_writes_where_another_one_writes(
    small: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock is taken over while it trains (as of a job that was suspended for long): no file changes from then on."""
    taken: dict[str, bytes | None] = {}
    segment = Trainer._segment

    def take_over(trainer: Trainer, stream: object, steps: int) -> int:
        result = segment(trainer, stream, steps)  # type: ignore[arg-type]
        if trainer.position.step > 12:
            (tmp_path / "run" / NAME).write_bytes(whoami(60).to_bytes())
            taken.update(snapshot(tmp_path / "run" / "checkpoints"))
        return result

    monkeypatch.setattr(Trainer, "_segment", take_over)
    with pytest.raises(RunLost, match=r"run' is gone: another job took it over.*--resume"):
        run.train(small("training.eval_every_steps=12", "data.test=null"))
    assert "step-00000012/manifest.json" in taken
    left = snapshot(tmp_path / "run" / "checkpoints")
    assert left == {name: content for name, content in taken.items() if name != NAME}, "only its own lock is gone"
    assert (tmp_path / "run" / NAME).exists(), "the other job's lock stays"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_during_the_start_leaves_no_lock(
    small: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    before = signal.getsignal(number)
    monkeypatch.setattr(run, "prepare", lambda *args: os.kill(os.getpid(), number))
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit) as ended:
        run.train(small())
    assert number == signal.SIGINT or ended.value.code == 128 + number
    assert snapshot(tmp_path) == {} and signal.getsignal(number) == before


def test_a_run_folder_that_vanishes_ends_the_job_in_one_sentence(
    small: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = Trainer._segment

    def vanish(trainer: Trainer, stream: object, steps: int) -> int:
        result = segment(trainer, stream, steps)  # type: ignore[arg-type]
        os.rename(tmp_path / "run", tmp_path / "away")
        return result

    monkeypatch.setattr(Trainer, "_segment", vanish)
    with pytest.raises(RunLost, match=r"run' is gone: it was deleted or its storage was unmounted"):
        run.train(small("data.valid=null", "data.test=null"))
    assert not (tmp_path / "run").exists()


def test_readers_take_no_lock(small: Callable[..., RunConfig], tmp_path: Path) -> None:
    assert run.train(small("training.max_steps=1", "data.valid=null")) == 0
    lock = RunLock([Storage.open(tmp_path / "run")], 60, print)
    lock.take()
    assert trained.evaluate(str(tmp_path / "run"))["rows"] == 150
    lock.release()


def test_a_relative_place_for_checkpoints_is_in_the_run_folder(
    small: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the run is started, and wherever the run folder is moved to."""

    def place(value: str, path: Path | None = None) -> str:
        return RunFolder(small(f"training.checkpoint.path={value}"), path).checkpoints.storage.location

    for folder in (tmp_path, Path("/")):
        monkeypatch.chdir(folder)
        assert place("ck/rel") == f"{tmp_path}/run/ck/rel"
        assert place("ck/rel", tmp_path / "moved") == f"{tmp_path}/moved/ck/rel"
        assert place("/abs/ck") == "/abs/ck" and place("memory://ck/x") == "memory://ck/x"
    monkeypatch.chdir(tmp_path)
    assert place("ck", Path("moved")) == f"{tmp_path}/moved/ck"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert place("~/ck") == f"{tmp_path}/home/ck"
