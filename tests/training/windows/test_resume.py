"""Runs over windows that stop and go on: inside a window and between two, on the same ranks and on others; the same run."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from interformer_rec.checkpoint.evaluated import FILE
from interformer_rec.checkpoint.manifest import Manifest
from interformer_rec.config.run import RunConfig
from interformer_rec.errors import InputError
from interformer_rec.storage import Storage
from interformer_rec.training import run
from tests.forked import begin, command
from tests.training.runs import records, save_config
from tests.training.start.test_resume import strip_times
from tests.training.windows.conftest import ROWS

OFTEN = ("training.checkpoint.every_steps=2", "training.checkpoint.keep=99", "model.dropout=0.2")


def last(folder: Path, step: int) -> Manifest:
    return Manifest.read(Storage.open(folder / "checkpoints" / f"step-{step:08d}"))


@pytest.mark.parametrize(
    "stands, evaluated",
    [
        pytest.param(7, True, id="inside"),
        pytest.param(5, False, id="between"),
        pytest.param(5, True, id="begun", marks=pytest.mark.slow),
        pytest.param(10, False, id="before the last", marks=pytest.mark.slow),
    ],
)
def test_what_is_resumed_is_the_same_run(
    windowed: Callable[..., RunConfig], write: Callable[..., Path], tmp_path: Path, stands: int, evaluated: bool
) -> None:
    """Five steps a window; of the run only the checkpoints until `stands` are left, with and without what the next evaluation said."""
    write(0, 1, 2)
    options = (*OFTEN, "optimizer.schedule.warmup_steps=9")
    assert run.train(windowed(*options)) == 0
    one, again = tmp_path / "run", tmp_path / "again"
    shutil.copytree(one, again)
    for checkpoint in (again / "checkpoints").glob("step-*"):
        if int(checkpoint.name.split("-")[1]) > stands:
            shutil.rmtree(checkpoint)
    if not evaluated:
        (again / "checkpoints" / f"step-{stands:08d}" / FILE).unlink()
    (again / "metrics.jsonl").unlink()
    assert run.train(windowed(*options, f"training.out={again}"), resume=True) == 0
    for split in ("train", "window"):
        since = stands - 1 if split == "window" and not evaluated else stands
        expected = [strip_times(record) for record in records(one, split) if record["step"] > since]
        found = [strip_times(record) for record in records(again, split) if record["step"] > since]
        assert found == expected != []
    for name in ("dense.safetensors", "rank-00000.safetensors"):
        first, second = (last(folder, 15).tensor_file(name) for folder in (one, again))
        assert first.keys() == second.keys() != []
        assert all(torch.equal(first.tensor(key), second.tensor(key)) for key in first.keys()), name  # noqa: SIM118


def test_two_ranks_are_the_same_run(
    windowed: Callable[..., RunConfig], write: Callable[..., Path], tmp_path: Path
) -> None:
    """A step takes all rows of a window, so that one rank and two have the same batches."""
    write(0, 1, 2)
    assert run.train(windowed(f"data.batch_size={ROWS}", "training.epochs=3")) == 0
    out = ("training.epochs=3", f"data.batch_size={ROWS // 2}", f"training.out={tmp_path}/two")
    ended = command(2, "train", save_config(windowed, tmp_path, *out))
    assert [rank.code for rank in ended] == [0, 0], ended[0].printed
    alone, two = (records(tmp_path / name, "window") for name in ("run", "two"))
    assert [one["window"] for one in two] == [one["window"] for one in alone] and len(two) == 3
    for one, other in zip(alone, two, strict=True):
        assert one.keys() == other.keys()
        for name, value in strip_times(one).items():
            if isinstance(value, float):
                assert other[name] == pytest.approx(value, abs=2e-4), name
        assert [other[name] for name in other if name.endswith("/unknown")] == [
            one[name] for name in other if name.endswith("/unknown")
        ]


def test_other_ranks_go_on_inside_a_window(
    windowed: Callable[..., RunConfig], write: Callable[..., Path], tmp_path: Path
) -> None:
    """What is unread of it is divided anew; a window that appeared meanwhile comes after it."""
    write(0, 1)
    assert run.train(windowed("training.max_steps=7", "training.log_every_steps=1")) == 0
    write(2)
    path = save_config(windowed, tmp_path, "training.log_every_steps=1")
    ended = command(2, "train", path, "--resume")
    assert [rank.code for rank in ended] == [0, 0], ended[0].printed
    steps = records(tmp_path / "run", "train")
    rows = [sum(one["rows"] for one in steps if one["epoch"] == epoch) for epoch in (0, 1, 2)]
    assert rows == [ROWS, ROWS, ROWS]
    assert [one["step"] for one in steps] == list(range(1, 7 + 2 + 3 + 1))  # 172 rows and 300, in steps of 128
    assert [one["window"] for one in records(tmp_path / "run", "window")] == [f"dt=2026-11-0{n}" for n in (1, 2, 3)]


@pytest.mark.slow
def test_a_killed_run_goes_on(windowed: Callable[..., RunConfig], write: Callable[..., Path], tmp_path: Path) -> None:
    """Killed wherever it is after the second window began: the run that nothing stopped has the same metrics."""
    write(0, 1, 2, 3)
    options = ("training.epochs=2", "training.checkpoint.every_steps=3", "training.log_every_steps=1")
    assert run.train(windowed(*options, f"training.out={tmp_path}/whole")) == 0
    folder, path = tmp_path / "run", save_config(windowed, tmp_path, *options)
    process = begin("train", path)
    while process.exitcode is None and not ((folder / "metrics.jsonl").exists() and len(records(folder, "window")) > 1):
        time.sleep(0.01)
    process.kill()
    process.join()
    assert run.train(windowed(*options), resume=True) == 0
    logged = {one["window"]: strip_times(one) for one in records(folder, "window")}  # the last of each
    assert list(logged.values()) == [strip_times(one) for one in records(tmp_path / "whole", "window")]


def test_a_window_that_changed_under_a_run(windowed: Callable[..., RunConfig], write: Callable[..., Path]) -> None:
    place = write(0, 1)
    assert run.train(windowed("training.max_steps=7")) == 0
    write(1, rows=250)
    with pytest.raises(InputError, match=r"cannot resume inside window 'dt=2026-11-02': it has changed since"):
        run.train(windowed(), resume=True)
    shutil.rmtree(place / "dt=2026-11-02")
    with pytest.raises(InputError, match=r"cannot resume inside window 'dt=2026-11-02': it is not there any more"):
        run.train(windowed(), resume=True)
    write(1)
    assert run.train(windowed(), resume=True) == 0
