"""The loop: what its hooks see, in which order, and that it knows of nothing else that happens at a step."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from interformer_rec.config.run import RunConfig
from interformer_rec.training import run, trainer
from interformer_rec.training.hooks import Hooks
from interformer_rec.training.loop import Hook, StepInfo
from tests.training.runs import records

SEEN: list[tuple] = []


class Witness(Hook):
    """Notes what it is called with."""

    def begin_epoch(self, continued: bool) -> None:
        SEEN.append(("epoch", continued))

    def begin(self, steps: int) -> None:
        SEEN.append(("segment", steps))

    def step(self, info: StepInfo) -> None:
        assert info.loss.ndim == 0 and len(info.logits) == info.batch.rows and info.wait_seconds >= 0
        SEEN.append((info.step, info.epoch, info.batch.rows, info.last))

    def end(self, stopped: bool) -> None:
        SEEN.append(("end", stopped))

    def end_epoch(self) -> None:
        SEEN.append(("no more rows",))


class Watched(Hooks):
    """With a witness at the end."""

    def __init__(self, *parts: object) -> None:
        super().__init__(*parts)  # type: ignore[arg-type]
        self.all.append(Witness())


def test_hooks_see_every_step_once_and_in_order(
    small: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interformer_rec.training.start.prepare.Hooks", Watched)
    SEEN.clear()
    options = (
        "data.batch_size=500",
        "training.eval_every_steps=3",
        "data.test=null",
        "training.checkpoint.every_steps=2",
    )
    assert run.train(small(*options, "training.max_steps=6")) == 0
    first = [
        ("epoch", False),
        ("segment", 3),
        (1, 0, 500, False),
        (2, 0, 500, False),
        (3, 0, 500, True),
        ("end", False),
    ]
    assert SEEN[:6] == first
    assert SEEN[6:] == [
        ("segment", 1), (4, 0, 1, True), ("end", False), ("no more rows",),
        ("epoch", False), ("segment", 2), (5, 1, 500, False), (6, 1, 500, True), ("end", False), ("no more rows",),
    ]  # fmt: skip
    places = [(record["split"], record["step"]) for record in records_of(tmp_path / "run")]
    # step 4 is the end of a segment: its evaluation saves, and nothing is saved twice
    assert sorted(step for split, step in places if split == "checkpoint") == [2, 3, 4, 6]
    assert [step for split, step in places if split == "valid"] == [3, 4, 6]
    SEEN.clear()
    assert run.train(small(*options, "training.max_steps=7"), resume=True) == 0
    assert SEEN[0] == ("epoch", True) and SEEN[2] == (7, 1, 500, True)


def records_of(folder: Path) -> list[dict]:
    return [record for split in ("train", "valid", "checkpoint") for record in records(folder, split)]


def test_the_trainer_imports_no_hook() -> None:
    tree = ast.parse(Path(trainer.__file__).read_text(encoding="utf-8"))
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    beside = (
        "log_interval",
        "length_statistics",
        "saving",
        "measure",
        "run_log",
        "run_folder",
        "watchdog",
        "checkpoint",
    )
    assert [name for name in names if set(name.split(".")) & set(beside)] == []
