"""From window to window: what is read when, what is logged and saved, what hooks see."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.checkpoint.retention import Checkpoints
from interformer_rec.config.run import RunConfig
from interformer_rec.data.files.source import Source
from interformer_rec.errors import InputError
from interformer_rec.training import run
from interformer_rec.training.hooks import Hooks
from interformer_rec.training.loop import Hook, StepInfo
from interformer_rec.training.windows.order import Present
from tests.training.runs import records
from tests.training.windows.conftest import ROWS, folder_of

SEEN: list[tuple[Any, ...]] = []


class Witness(Hook):
    """Notes what it is called with."""

    def begin_window(self, window: Present, continued: bool) -> None:
        assert window.source is not None and window.source.rows == window.seen.rows
        SEEN.append(("begin", window.name, continued))

    def begin_epoch(self, continued: bool) -> None:
        SEEN.append(("epoch",))

    def step(self, info: StepInfo) -> None:
        SEEN.append(("step", info.step))

    def end_window(self, window: Present) -> None:
        SEEN.append(("end", window.name))


class Watched(Hooks):
    """With a witness at the end."""

    def __init__(self, *parts: object) -> None:
        super().__init__(*parts)  # type: ignore[arg-type]
        self.all.append(Witness())


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What a hook was called with, and which files were read."""
    read = Source.read

    def noted(source: Source, *args: Any, **options: Any) -> Any:
        SEEN.extend(
            ("read", name) for name in {Path(file).parent.name for file in source.files} if name.startswith("dt=")
        )
        return read(source, *args, **options)

    monkeypatch.setattr(Source, "read", noted)
    monkeypatch.setattr("interformer_rec.training.start.prepare.Hooks", Watched)
    SEEN.clear()
    return SEEN


def test_each_window_is_judged_and_then_trained_on(
    windowed: Callable[..., RunConfig], write: Callable[..., Path], witness: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    write(0, 1, 2)
    assert run.train(windowed("training.epochs=2")) == 0
    days = [f"dt=2026-11-0{day}" for day in (1, 2, 3)]
    for day in days[1:]:  # the first one is read before: vocabularies are fitted on it
        first = witness.index(("read", day))
        assert witness[first - 1] == ("end", f"dt=2026-11-0{int(day[-1]) - 1}")
        begun = witness.index(("begin", day, False))
        assert {one for one in witness[first:begun] if one[0] != "read"} == set()  # its evaluation reads it first
        assert {one[1] for one in witness[:begun] if one[0] == "read"} == set(days[: int(day[-1])])  # and no later one
    assert [one for one in witness if one[0] in ("begin", "epoch", "end")] == [
        part for day in days for part in (("begin", day, False), ("epoch",), ("epoch",), ("end", day))
    ]
    assert len([one for one in witness if one[0] == "step"]) == 3 * 2 * 5  # 300 rows in steps of 64
    logged = records(tmp_path / "run", "window")
    assert [(one["window"], one["epoch"], one["step"]) for one in logged] == [
        (days[0], 0, 0), (days[1], 2, 10), (days[2], 4, 20),
    ]  # fmt: skip
    assert sum(one["rows"] for one in records(tmp_path / "run", "train")) == 3 * 2 * ROWS
    data = json.loads((tmp_path / "run" / "data.json").read_text())
    assert data["train"]["rows"] == 3 * ROWS and data["train"]["path"].endswith("windows")


def test_metrics_of_a_window_and_over_all(
    windowed: Callable[..., RunConfig], write: Callable[..., Path], tmp_path: Path
) -> None:
    """The averages leave out the first window; the known ids are those of the first."""
    write(0, 1, 2, 3)
    assert run.train(windowed("training.monitor=gauc")) == 0
    first, *rest = records(tmp_path / "run", "window")
    assert not [name for name in first if name.startswith("all/")]
    assert first["user_id/unknown"] == 0 and all(0 < one["user_id/unknown"] < 1 for one in rest)
    last = rest[-1]
    for name in ("auc", "gauc", "logloss", "base_rate"):  # windows of as many rows
        mean = np.mean([one[f"label/{name}"] for one in rest])
        assert last[f"all/label/{name}"] == pytest.approx(mean), name
    rate = last["all/label/base_rate"]
    entropy = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    assert last["all/label/ne"] == pytest.approx(last["all/label/logloss"] / entropy)
    predicted = sum(one["label/calibration"] * one["label/base_rate"] for one in rest)
    assert last["all/label/calibration"] == pytest.approx(predicted / sum(one["label/base_rate"] for one in rest))
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    assert (
        checkpoints.best() == "step-00000020"
    )  # the newest: scores of different windows say nothing of which is better


def test_a_run_goes_on_with_windows_that_appeared_meanwhile(
    windowed: Callable[..., RunConfig], write: Callable[..., Path], tmp_path: Path, witness: list[tuple[Any, ...]]
) -> None:
    write(0, 1)
    assert run.train(windowed()) == 0
    write(2)
    witness.clear()
    assert run.train(windowed(), resume=True) == 0
    assert [one for one in witness if one[0] in ("begin", "end")] == [
        ("end", "dt=2026-11-02"), ("begin", "dt=2026-11-03", False), ("end", "dt=2026-11-03"),
    ]  # fmt: skip
    assert [one["window"] for one in records(tmp_path / "run", "window")] == [f"dt=2026-11-0{n}" for n in (1, 2, 3)]
    witness.clear()
    assert run.train(windowed(), resume=True) == 0  # nothing new
    assert [one for one in witness if one[0] in ("begin", "step", "read")] == []


def test_windows_that_are_not_as_they_were(windowed: Callable[..., RunConfig], write: Callable[..., Path]) -> None:
    write(0, 2)
    assert run.train(windowed()) == 0
    place = write(1)
    with pytest.raises(InputError, match=r"'dt=2026-11-02' has appeared late"):
        run.train(windowed(), resume=True)
    assert run.train(windowed("data.windows.late=skip"), resume=True) == 0
    write(2, rows=200)
    with pytest.raises(InputError, match=r"'dt=2026-11-03' was trained on, and its files have changed since"):
        run.train(windowed("data.windows.late=skip"), resume=True)
    write(2)
    (folder_of(place, 0) / "part-0.parquet").unlink()  # old windows may go
    (folder_of(place, 3)).mkdir()
    assert run.train(windowed("data.windows.late=skip"), resume=True) == 0


def test_too_few_windows_to_fit_on(windowed: Callable[..., RunConfig], write: Callable[..., Path]) -> None:
    write(0)
    with pytest.raises(InputError, match=r"has 1 window\(s\) that are whole .* first 2 \(data.windows.fit_on\)"):
        run.train(windowed("data.windows.fit_on=2"))


@pytest.mark.parametrize(
    "override, message",
    [
        ("data.train=x", "data.train does not go with data.windows: data.windows takes its place. Leave it out"),
        ("data.valid=x", "data.valid does not go with data.windows: each window is evaluated on before"),
        ("training.patience=2", "training.patience does not go with data.windows: scores of different windows"),
        ("training.eval_every_steps=2", "training.eval_every_steps does not go with data.windows"),
        ("optimizer.schedule.kind=plateau", "optimizer.schedule.kind: plateau does not go with data.windows"),
        ("optimizer.schedule.kind=cosine", "nobody knows how many windows will come"),
    ],
)
def test_what_makes_no_sense_beside_windows(windowed: Callable[..., RunConfig], override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        windowed(override)


def test_following_needs_windows(small: Callable[..., RunConfig]) -> None:
    with pytest.raises(InputError, match=r"training.follow waits for windows: set data.windows"):
        small("training.follow=true")


def test_windows_cut_by_time_are_windows(
    windowed: Callable[..., RunConfig], write: Callable[..., Path], days: list[pa.Table], tmp_path: Path
) -> None:
    """Folders of a day's rows, and one file cut by day, give the same run."""
    write(0, 1, 2)
    assert run.train(windowed("data.shuffle_rows=0", f"training.out={tmp_path}/folders")) == 0
    rows = pa.concat_tables([
        table.append_column("at", pa.array([3 * 86_400 * day + 7] * table.num_rows)) for day, table in enumerate(days[:3])
    ])  # fmt: skip
    pq.write_table(rows, tmp_path / "rows.parquet", row_group_size=130)
    cut = (f"data.windows.path={tmp_path}/rows.parquet", "data.windows.by=time", "data.windows.column=at")
    assert run.train(windowed("data.shuffle_rows=0", *cut, "data.windows.width=259200")) == 0
    one, other = (records(tmp_path / name, "window") for name in ("folders", "run"))
    assert [record["window"] for record in other] == ["0", "259200", "518400"]
    for a, b in zip(one, other, strict=True):
        same = {name: value for name, value in a.items() if name not in ("window", "seconds")}
        assert {name: b[name] for name in same} == pytest.approx(same, nan_ok=True)
