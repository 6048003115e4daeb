from __future__ import annotations

import json
import mmap
import os
from pathlib import Path

import pytest
import torch

from interformer_rec.distributed.environment import Environment
from interformer_rec.planning.plan_file import read_plan
from interformer_rec.training import run
from interformer_rec.training.measure import recorder as measured
from interformer_rec.training.measure.memory import held, malloc_bytes, peak, reset_peak
from interformer_rec.training.measure.recorder import Recorder
from interformer_rec.training.measure.stages import STAGES
from interformer_rec.training.pipeline import Pipeline
from interformer_rec.training.start import prepare as start
from tests.training.runs import records

CPU = torch.device("cpu")


def test_measuring_changes_nothing_and_leaves_nothing_behind(small, tmp_path: Path, monkeypatch):
    pipelines: list[Pipeline] = []

    def keep(*args: object) -> Pipeline:
        pipelines.append(Pipeline(*args))  # type: ignore[arg-type]
        return pipelines[-1]

    monkeypatch.setattr(start, "Pipeline", keep)
    overrides = ("training.epochs=1", "data.batch_size=64", "model.dropout=0.1")
    assert run.train(small(*overrides)) == 0
    monkeypatch.setattr(measured, "MOST", 0)
    assert run.train(small(*overrides, f"training.out={tmp_path}/plain")) == 0
    with_, without = (json.loads((tmp_path / name / "measured.json").read_text()) for name in ("run", "plain"))
    assert len(with_["by_rank"][0]["time"]["step"]) == 12 and without["by_rank"][0]["time"] is None
    for split in ("train", "valid"):
        first, second = (records(tmp_path / name, split) for name in ("run", "plain"))
        timed = ("seconds", "samples_per_second", "data_wait_share", "time")
        assert [{k: v for k, v in r.items() if k not in timed} for r in first] == [
            {k: v for k, v in r.items() if k not in timed} for r in second
        ]
    used = pipelines[0]
    assert "enqueue_batch" not in vars(used.pipeline) and "_backward" not in vars(used.pipeline)
    assert "zero_grad" not in vars(used.optimizer)
    assert used.pipeline._model_fwd == used._forward
    assert not any(m._forward_pre_hooks for m in used.model.modules() if type(m).__name__ == "Assemble")


def test_one_rank_measures_all_stages_and_all_memory(small, tmp_path: Path):
    assert run.train(small("training.epochs=1", "data.batch_size=64")) == 0
    content = json.loads((tmp_path / "run" / "measured.json").read_text())
    (rank,) = content["by_rank"]
    assert set(rank["time"]["stages"]) == set(STAGES) and rank["time"]["first_step"] == 5
    assert set(rank["rows"]) == {64}
    memory = rank["memory"]
    plan = read_plan(str(tmp_path / "run" / "plan.json"))
    shards = [shard for table in plan.tables.values() for shard in table.shards]
    assert memory["tables"] == 4 * sum(rows * columns for _, _, _, rows, columns in shards)
    assert memory["dense_state"] >= 2 * memory["dense_parameters"] == 2 * memory["gradients"]
    assert memory["before"] < memory["peak"] <= memory["process_peak"]
    assert memory["before"] < memory["evaluation_peak"] <= memory["process_peak"]
    assert (
        rank["evaluation_elements"].keys() == rank["elements"].keys() and min(rank["evaluation_elements"].values()) > 0
    )


def test_short_segments_are_timed_together(small, tmp_path: Path):
    """Segments of 4 steps: the first warms up, then one step of each can be timed until there are 3."""
    overrides = ("training.max_steps=20", "training.eval_every_steps=4", "data.batch_size=64", "training.patience=null")
    assert run.train(small(*overrides)) == 0
    (rank,) = json.loads((tmp_path / "run" / "measured.json").read_text())["by_rank"]
    assert len(rank["time"]["step"]) == len(rank["rows"]) == 3 and rank["time"]["first_step"] == 6
    assert min(rank["time"]["stages"]["dense_backward"]) > 0


def test_a_run_that_stops_while_it_is_measured(small, tmp_path: Path):
    """max_steps is in the segment's length; a signal is not, so the batches end before their time."""

    class Few(Recorder):
        def begin(self, steps: int) -> None:
            super().begin(1000)

    original, start.Recorder = start.Recorder, Few
    try:
        assert run.train(small("training.max_steps=6", "data.batch_size=64")) == 0
    finally:
        start.Recorder = original
    content = json.loads((tmp_path / "run" / "measured.json").read_text())
    assert content["by_rank"][0]["time"] is None and content["why_no_time"].startswith(
        "of 6 step(s) 2 could be timed, 3 are needed"
    )
    assert content["by_rank"][0]["memory"]["peak"] > 0


def test_an_error_while_measuring_comes_through(small):
    class Broken(Recorder):
        def _read_malloc(self) -> None:
            raise ValueError("in the middle of a step")

    original, start.Recorder = start.Recorder, Broken
    try:
        with pytest.raises(ValueError, match="in the middle of a step"):
            run.train(small("training.epochs=1", "data.batch_size=64"))
    finally:
        start.Recorder = original


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="Linux")
def test_the_peak_forgets_what_was_before():
    with mmap.mmap(-1, 64 << 20) as block:  # no memory that malloc had kept
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1
        high = peak(CPU)
    assert reset_peak(CPU)
    assert high is not None and held(CPU) <= peak(CPU) < high - (32 << 20)  # type: ignore[operator]


def test_malloc_knows_what_is_in_use():
    before = malloc_bytes()
    if before is None:
        pytest.skip("no glibc")
    block = torch.ones(16 << 20, dtype=torch.uint8)
    assert malloc_bytes()[0] - before[0] >= block.nbytes  # type: ignore[index]


def test_without_a_step_there_is_no_time(tmp_path: Path):
    recorder = Recorder(Environment(0, 1, 0, 1, CPU), None, held(CPU))  # type: ignore[arg-type]
    recorder.begin(3)
    recorder.end(False)
    assert recorder._memory["peak"] and recorder._why_no_time() == "no step was trained"
