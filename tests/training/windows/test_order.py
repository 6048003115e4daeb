"""Which windows a run enters: empty ones are passed over, a silent store is asked again, held-out rows among them are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from interformer_rec.config.run import RunConfig
from interformer_rec.data.files.locate import Unreachable
from interformer_rec.data.windows.partitions import Partitions
from interformer_rec.distributed.environment import Environment
from interformer_rec.errors import InputError
from interformer_rec.training import run
from interformer_rec.training.windows.order import Order
from tests.launch import on_one
from tests.training.runs import records
from tests.training.windows.conftest import folder_of

Config = Callable[..., RunConfig]


def entered(env: Environment, config: RunConfig, poll_seconds: float | None = None) -> tuple[list[str], list[str]]:
    """Names of the windows that a run would enter, and what it says."""
    said: list[str] = []
    order, names = Order(config.data, env, said.append, poll_seconds), []
    while order.next(len(names), 1):
        assert order.present is not None
        names.append(order.present.name[-2:])
    return names, [*said, *([order.waiting] if order.waiting else [])]


def test_empty_windows_are_passed_over(windowed: Config, write: Callable[..., Path]) -> None:
    """A folder with its marker alone, and one whose file has no row."""
    place = write(0, 1, 2, 3)
    (folder_of(place, 1) / "part-0.parquet").unlink()
    file = folder_of(place, 2) / "part-0.parquet"
    pq.write_table(pq.read_table(file).slice(0, 0), file)
    config = windowed("data.windows.marker=_SUCCESS")
    names, said = on_one(entered, config)
    assert names == ["01", "04"] and [line[:21] for line in said] == ["window 'dt=2026-11-02", "window 'dt=2026-11-03"]
    assert all("has no rows, and is passed over" in line for line in said)
    with pytest.raises(InputError, match=r"window 'dt=2026-11-02' has no rows \(0 Parquet file\(s\)\): write it again"):
        on_one(entered, windowed("data.windows.marker=_SUCCESS", "data.windows.empty=error"))


def test_a_store_that_does_not_answer(
    windowed: Config, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error, or with --follow a reason to look again later."""
    write(0)
    found = Partitions.find

    def find(self: Partitions) -> object:
        monkeypatch.setattr(Partitions, "find", found)
        raise Unreachable("cannot reach 's3://bucket/events': timeout")

    monkeypatch.setattr(Partitions, "find", find)
    with pytest.raises(InputError, match="cannot reach"):
        on_one(entered, windowed())
    monkeypatch.setattr(Partitions, "find", find)
    assert on_one(entered, windowed(), 0.1) == ([], ["warning: cannot reach 's3://bucket/events': timeout"])
    assert on_one(entered, windowed(), 0.1)[0] == ["01"]


def test_held_out_rows_do_not_lie_among_the_windows(windowed: Config, write: Callable[..., Path]) -> None:
    """Those of a window that is there, and of one that may come."""
    place = write(0)
    for held_out in (folder_of(place, 0), folder_of(place, 0) / "part-0.parquet"):
        with pytest.raises(InputError, match=r"data.test has a file that lies among the windows of data.windows.path"):
            run.train(windowed(f"data.test={held_out}"))
    assert not (place.parent / "run").exists()


def test_a_held_out_set_is_tested_at_the_end(
    windowed: Config, write: Callable[..., Path], synthetic: Path, tmp_path: Path
) -> None:
    write(0, 1)
    assert run.train(windowed(f"data.test={synthetic}/test.parquet")) == 0
    assert [one["step"] for one in records(tmp_path / "run", "test")] == [10]
