"""The run log: what is on disk after every call, after a kill and after a resume; what the screen shows."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from interformer_rec.training.folder.run_log import LOG_FILE, RunLog, read_log


def step(number: int, **more: Any) -> dict[str, Any]:
    """A training record."""
    return {"epoch": 0, "step": number, "rows": 512, "loss": 1.0 / number, "samples_per_second": 2048.0, **more}


def plain() -> Console:
    return Console(file=io.StringIO(), width=60)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / LOG_FILE).read_text().splitlines()]


def test_records_are_on_disk_at_once_and_nan_is_null(tmp_path: Path) -> None:
    with RunLog(tmp_path / "run", enabled=True, total_steps=lambda: 40, console=plain()) as log:
        log.train(step(20, ne=np.float64(0.75)))
        assert lines(tmp_path / "run") == [{"split": "train", **step(20, ne=0.75)}]
        log.evaluation("valid", {"epoch": 0, "step": 20, "rows": 9, "click/auc": 0.7, "click/gauc": math.nan})
        last = lines(tmp_path / "run")[-1]
        assert last == {"split": "valid", "epoch": 0, "step": 20, "rows": 9, "click/auc": 0.7, "click/gauc": None}
        log.train(step(40, loss=math.inf))
    assert "Infinity" not in (tmp_path / "run" / LOG_FILE).read_text()


def test_resumed_run_appends_and_the_later_record_holds(tmp_path: Path) -> None:
    for loss in (0.9, 0.5):
        with RunLog(tmp_path, enabled=True, total_steps=lambda: 40, console=plain()) as log:
            log.train(step(20, loss=loss))
            log.train(step(40 if loss > 0.5 else 60, loss=loss))
    assert len(lines(tmp_path)) == 4
    assert [(record["step"], record["loss"]) for record in read_log(tmp_path)] == [
        (20, 0.5),
        (60, 0.5),
    ]  # 40 was done over


def test_half_a_line_of_a_killed_run_hurts_nobody(tmp_path: Path) -> None:
    (tmp_path / LOG_FILE).write_text(json.dumps({"split": "train", **step(20)}) + '\n{"split": "tra')
    with RunLog(tmp_path, enabled=True, total_steps=lambda: 40, console=plain()) as log:
        log.train(step(40))
    assert [record["step"] for record in read_log(tmp_path)] == [20, 40]


def test_a_kill_loses_nothing_that_was_written(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys\n"
        "from interformer_rec.training.folder.run_log import RunLog\n"
        "log = RunLog(pathlib.Path(sys.argv[1]), True, lambda: 9).__enter__()\n"
        "log.train({'epoch': 0, 'step': 5, 'loss': 0.5})\n"
        "os.kill(os.getpid(), 9)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, env=os.environ, capture_output=True)
    assert run.returncode == -9, run.stderr
    assert [record["step"] for record in read_log(tmp_path)] == [5]
    assert scalars(tmp_path, "train/loss") == [(5, 0.5)]


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_tensorboard_has_the_same_numbers(tmp_path: Path) -> None:
    with RunLog(tmp_path, enabled=True, total_steps=lambda: 40, console=plain()) as log:
        log.train(step(1))
        log.train(step(2))
        log.evaluation("test", {"epoch": 1, "step": 2, "click/auc": 0.25, "click/gauc": math.nan})
    assert scalars(tmp_path, "train/loss") == [(1, 1.0), (2, 0.5)]
    assert scalars(tmp_path, "test/click/auc") == [(2, 0.25)]


def test_plain_lines_are_rare_and_the_last_step_is_shown(tmp_path: Path) -> None:
    console = plain()
    with RunLog(tmp_path, enabled=True, total_steps=lambda: 1000, console=console) as log:
        for number in range(1, 1001):
            log.train(step(number))
        log.evaluation("valid", {"epoch": 0, "step": 1000, "rows": 1234, "click/auc": 0.5, "click/ne": math.nan})
        log.message("[bold]kept as typed[/bold]")
    said = text_of(console).splitlines()
    shown = [line for line in said if "samples/s" in line]
    assert 2 <= len(shown) <= 10
    assert "step 1000/1000" in shown[-1] and "loss 0.0010" in shown[-1] and "2,048 samples/s" in shown[-1]
    assert "valid  step 1000  click/auc 0.5000  click/ne undefined  (1,234 rows)" in said
    assert "[bold]kept as typed[/bold]" in said


def test_terminal_has_a_bar_and_an_error_ends_it(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with (
        pytest.raises(RuntimeError, match="out of milk"),
        RunLog(tmp_path, enabled=True, total_steps=lambda: 100, console=console) as log,
    ):
        log.train(step(50))
        log.train(step(60))
        log.message("a word in between")
        raise RuntimeError("out of milk")
    shown = text_of(console)
    assert "60/100" in shown and "a word in between" in shown and "2,048 samples/s" in shown
    assert "\x1b[?25h" in shown  # the cursor is back


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    with RunLog(tmp_path / "run", enabled=False, total_steps=lambda: 10) as log:
        log.train(step(1))
        log.evaluation("valid", step(1))
        log.message("hello")
    assert not (tmp_path / "run").exists()


def test_lines_that_are_no_records_are_left_out(tmp_path):
    good = {"split": "train", **step(20)}
    lines = ["[" * 100_000, "null", "[]", '"train"', '{"split": "train"}', json.dumps({**good, "step": "20"})]
    lines += [json.dumps({**good, "split": ["train"]}), json.dumps({**good, "epoch": None}), json.dumps(good), "{"]
    (tmp_path / LOG_FILE).write_text("\n".join(lines))
    assert read_log(tmp_path) == [good]
