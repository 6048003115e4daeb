"""Waiting for windows: they appear, are trained on, and a signal ends the wait; on one rank and on two, local and behind a URI."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.cli import main
from interformer_rec.config.run import RunConfig
from interformer_rec.training import run
from tests.forked import CONTEXT, begin, environment, free_port
from tests.training.runs import records, save_config
from tests.training.windows.conftest import ROWS

POLL = (
    "training.poll_seconds=0.1",
    "training.stop_seconds=60",
    "training.hang_seconds=120",
    "data.windows.marker=_SUCCESS",
)

# Seconds; for a busy machine: what is waited for comes as soon as it can. HANG is waited out, and no step may take as long.
LATE, HANG = 240, 6


def until(condition: Callable[[], Any], seconds: float = LATE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def windows(folder: Path) -> list[str]:
    """Those that were evaluated on."""
    return [one["window"][-2:] for one in records(folder, "window")] if (folder / "metrics.jsonl").exists() else []


def saved(folder: Path, step: int) -> bool:
    return (folder / "checkpoints" / f"step-{step:08d}" / "manifest.json").exists()


def test_a_run_follows_until_a_signal(
    windowed: Callable[..., RunConfig], write: Callable[..., Path], tmp_path: Path
) -> None:
    """It is started before there is a window; one without its marker is waited for; resumed, it goes on following."""
    (tmp_path / "windows").mkdir()
    path, folder = save_config(windowed, tmp_path, *POLL), tmp_path / "run"
    process = begin("train", path, "--follow")
    write(0)
    until(lambda: windows(folder) == ["01"] and saved(folder, 5))
    place = write(1)
    until(lambda: windows(folder) == ["01", "02"] and saved(folder, 10))
    (place / "dt=2026-11-03").mkdir()
    pq.write_table(pq.read_table(place / "dt=2026-11-02" / "part-0.parquet"), place / "dt=2026-11-03" / "part.parquet")
    time.sleep(0.5)  # it is seen and not taken
    assert windows(folder) == ["01", "02"] and process.exitcode is None
    os.kill(process.pid, signal.SIGTERM)  # type: ignore[arg-type]
    process.join(LATE)
    assert process.exitcode == 128 + signal.SIGTERM  # within training.stop_seconds: else it is killed
    (place / "dt=2026-11-03" / "_SUCCESS").touch()
    assert main(["train", str(path), "--resume"]) == 0  # without --follow it ends after the last
    assert windows(folder) == ["01", "02", "03"] and saved(folder, 15)
    assert sum(one["rows"] for one in records(folder, "train")) == 3 * ROWS


def test_two_ranks_wait_together(
    windowed: Callable[..., RunConfig], write: Callable[..., Path], tmp_path: Path
) -> None:
    """Longer than training.hang_seconds: the watchdog knows that they wait. A signal to one of them ends both."""
    write(0)
    quick = (f"training.hang_seconds={HANG}", "training.follow=true")
    path, folder = save_config(windowed, tmp_path, *POLL, *quick), tmp_path / "run"
    port = free_port()
    ranks = [CONTEXT.Process(target=follow, args=(environment(rank, 2, port), str(path))) for rank in range(2)]
    for rank in ranks:
        rank.start()
    until(lambda: windows(folder) == ["01"] and saved(folder, 3))
    time.sleep(HANG + 1)
    assert [rank.exitcode for rank in ranks] == [None, None]
    write(1)
    until(lambda: windows(folder) == ["01", "02"] and saved(folder, 6))
    os.kill(ranks[1].pid, signal.SIGTERM)  # type: ignore[arg-type]
    for rank in ranks:
        rank.join(LATE)
    assert [rank.exitcode for rank in ranks] == [128 + signal.SIGTERM] * 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_wait_is_no_excuse_for_a_rank_that_is_gone(
    windowed: Callable[..., RunConfig], write: Callable[..., Path], tmp_path: Path, number: int
) -> None:
    """Its connection breaks, or the watchdog misses it: the other rank ends, so that an agent can start both again."""
    write(0)
    path = save_config(windowed, tmp_path, *POLL, f"training.hang_seconds={HANG}", "training.follow=true")
    port = free_port()
    ranks = [CONTEXT.Process(target=follow, args=(environment(rank, 2, port), str(path))) for rank in range(2)]
    for rank in ranks:
        rank.start()
    until(lambda: windows(tmp_path / "run") == ["01"] and saved(tmp_path / "run", 3))
    time.sleep(1)
    os.kill(ranks[1].pid, number)  # type: ignore[arg-type]
    ranks[0].join(LATE)
    ranks[1].kill()
    ranks[1].join()
    assert ranks[0].exitcode == 1


def follow(variables: dict[str, str], path: str) -> None:
    os.environ.update(variables)
    raise SystemExit(main(["train", path]))


def test_a_signal_ends_the_wait_for_the_first_window(windowed: Callable[..., RunConfig], tmp_path: Path) -> None:
    """Nothing of the run is left that would stop the next start."""
    (tmp_path / "windows").mkdir()
    path = save_config(windowed, tmp_path, *POLL, "training.follow=true")
    process = CONTEXT.Process(target=follow, args=({}, str(path)))
    process.start()
    until(lambda: (tmp_path / "run" / "lock.json").exists())
    os.kill(process.pid, signal.SIGTERM)  # type: ignore[arg-type]
    process.join(LATE)
    assert process.exitcode == 128 + signal.SIGTERM
    assert not (tmp_path / "run" / "lock.json").exists()


def test_windows_behind_a_uri(windowed: Callable[..., RunConfig], days: list[pa.Table], tmp_path: Path) -> None:
    """They appear while the run waits for them; a signal from within ends it."""
    store, place = fsspec.filesystem("memory"), "/followed-by-a-test"

    def put(day: int) -> None:
        with store.open(f"{place}/dt=2026-11-{day + 1:02}/part.parquet", "wb") as file:
            pq.write_table(days[day], file)
        store.touch(f"{place}/dt=2026-11-{day + 1:02}/_SUCCESS")

    def writer() -> None:
        until(lambda: windows(tmp_path / "run") == ["01"] and saved(tmp_path / "run", 5))
        put(1)
        until(lambda: saved(tmp_path / "run", 10))
        os.kill(os.getpid(), signal.SIGTERM)

    put(0)
    thread = threading.Thread(target=writer, daemon=True)
    thread.start()
    try:
        config = windowed(*POLL, f"data.windows.path=memory:/{place}", "training.follow=true")
        assert run.train(config) == 128 + signal.SIGTERM
    finally:
        thread.join(LATE)
        store.rm(place, recursive=True)
    assert windows(tmp_path / "run") == ["01", "02"]


@pytest.mark.parametrize("marker", ["_SUCCESS", None])
def test_without_follow_a_run_ends_at_a_window_that_is_not_whole(
    windowed: Callable[..., RunConfig], write: Callable[..., Path], tmp_path: Path, marker: str | None
) -> None:
    place = write(0, 1, 2)
    (place / "dt=2026-11-02" / "_SUCCESS").unlink()
    assert run.train(windowed(f"data.windows.marker={marker or 'null'}")) == 0
    assert windows(tmp_path / "run") == (["01"] if marker else ["01", "02", "03"])
