"""Files of a run that cannot be written: one sentence with the file and the reason, exit code 1."""

from __future__ import annotations

import io
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from interformer_rec.errors import InputError
from interformer_rec.training.folder.run_log import LOG_FILE, RunLog, read_log
from interformer_rec.training.folder.writing import CannotWrite, writing


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """No file of this process grows beyond: what a full disk does to a write, without a disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def record(step: int, values: int) -> dict[str, float]:
    return {"epoch": 0, "step": step, **{f"v{number}": 0.5 for number in range(values)}}


def test_a_disk_that_is_full_ends_the_log_in_one_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with (
        pytest.raises(CannotWrite, match=rf"cannot write '.*{LOG_FILE}': File too large. Make room there.*--resume"),
        RunLog(tmp_path, enabled=True, total_steps=lambda: 9, console=Console(file=io.StringIO())) as log,
    ):
        log.train(record(1, 1))
        with files_end_at((tmp_path / LOG_FILE).stat().st_size + 20):
            log.train(record(2, 1))
    with RunLog(tmp_path, enabled=True, total_steps=lambda: 9, console=Console(file=io.StringIO())) as log:
        log.train(record(2, 1))
    assert [line["step"] for line in read_log(tmp_path)] == [1, 2], "half a line is passed over"
    assert "Traceback" not in capfd.readouterr().err


def test_a_full_disk_under_tensorboard_ends_the_log_in_one_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with (
        pytest.raises(CannotWrite, match=r"cannot write '.*tensorboard.*': File too large"),
        RunLog(tmp_path, enabled=True, total_steps=lambda: 9, console=Console(file=io.StringIO())) as log,
    ):
        log.train(record(1, 40))  # 40 events take more room than the line
        with files_end_at((tmp_path / LOG_FILE).stat().st_size * 2 + 50):
            log.train(record(2, 40))
    assert "Traceback" not in capfd.readouterr().err


def test_other_errors_pass(tmp_path: Path) -> None:
    with (
        pytest.raises(CannotWrite, match=r"cannot write '.*missing/file': No such file or directory"),
        writing(tmp_path),
    ):
        (tmp_path / "missing" / "file").write_text("")
    with pytest.raises(InputError, match="as it is"), writing(tmp_path):
        raise InputError("as it is")
