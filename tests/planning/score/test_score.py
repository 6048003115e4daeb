"""Predictions against real runs: 2 and 4 processes, each with its own memory as a launcher starts it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from interformer_rec.data.recipes.catalog import prepare
from interformer_rec.errors import InputError
from interformer_rec.planning.answer import placed_of_plan
from interformer_rec.planning.choose.command import improve_run
from interformer_rec.planning.cost.cluster import load_cluster
from interformer_rec.planning.plan_file import read_plan
from interformer_rec.planning.score.command import score_runs
from interformer_rec.planning.score.measured_file import read_run
from interformer_rec.planning.score.score import STEP, cluster_of, score, typical_steps
from tests.forked import command as forked_command
from tests.forked import environment, free_port

ROWS = {"rows": "3000", "files": "4", "fields": "3", "groups": "2", "max_length": "40,10", "vocab": "300", "seed": "5"}
OPTIONS = [
    "model.layers=1",
    "model.d=16",
    "training.epochs=1",
    "training.device=cpu",
    "data.valid=null",
    "training.patience=null",
    "data.test=null",
]


def train(folder: Path, ranks: int, *overrides: str, forked: bool = False) -> Path:
    """A run of `ranks` processes on synthetic data below `folder`; returns its folder. Forked ones share pages of memory."""
    data, run = folder / "data", folder / "run"
    prepare("synthetic", str(data), None, ROWS)
    command = ["train", str(data / "config.yaml"), f"--set=training.out={run}"]
    command += [f"--set={pair}" for pair in (*OPTIONS, *overrides)]
    if forked:
        ended = forked_command(ranks, *command)
        assert [rank.code for rank in ended] == [0] * ranks, ended
        return run
    port = free_port()
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "interformer_rec.cli", *command],
            env={**os.environ, **environment(rank, ranks, port), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for rank in range(ranks)
    ]
    for process in started:
        _, printed = process.communicate()
        assert process.returncode == 0, printed[-3000:]
    return run


TWO = ("data.batch_size=75", "sharding.tables={item_id: row_wise, field0: data_parallel, user_id: table_wise}")
FOUR = ("data.batch_size=256", "sharding.tables={item_id: column_wise}")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 forked ranks, 20 steps: time, and memory of what was allocated, not the peak of a process."""
    return train(tmp_path_factory.mktemp("two"), 2, *TWO, forked=True)


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of 2 processes that share nothing: the peak, too."""
    return train(tmp_path_factory.mktemp("two"), 2, *TWO)


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 forked ranks, 3 large steps."""
    return train(tmp_path_factory.mktemp("four"), 4, *FOUR, forked=True)


@pytest.fixture(scope="module")
def four_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of 4 processes that share nothing: the peak, too."""
    return train(tmp_path_factory.mktemp("four"), 4, *FOUR)


def scored(run: Path, capsys: pytest.CaptureFixture[str], **options: Any) -> dict[str, Any]:
    """What `plan score --json` prints."""
    assert score_runs([str(run)], as_json=True, **options) == 0
    (found,) = json.loads(capsys.readouterr().out)["runs"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name, ranks", [("two_processes", 2), ("four_processes", 4)])
def test_peak_within_15_percent_on_every_rank(name: str, ranks: int, request: pytest.FixtureRequest, capsys):
    found = scored(request.getfixturevalue(name), capsys)
    runtime, peak = found["memory"]["runtime"], found["memory"]["peak"]
    # torch's CUDA build takes more memory on a CPU than the build that was measured: that is no table's fault
    for low, before, told, came in zip(
        runtime["predicted"], runtime["measured"], peak["predicted"], peak["measured"], strict=True
    ):
        assert told + max(0, before - 1.15 * low) == pytest.approx(came, rel=0.15)
    assert len(peak["measured"]) == found["ranks"] == ranks
    assert all(one >= max(peak["measured"]) * 0.5 for one in found["process_peak"])


@pytest.mark.parametrize("name, ranks", [("two", 2), ("four", 4)])
def test_tables_within_2_percent_on_every_rank(name: str, ranks: int, request: pytest.FixtureRequest, capsys):
    found = scored(request.getfixturevalue(name), capsys)
    assert found["verdicts"]["tables and optimizer state within 2%"] is True
    for part in ("table weights", "table optimizer state", "dense parameters", "dense gradients and DDP buckets"):
        row = found["memory"][part]
        assert len(row["measured"]) == ranks
        assert row["predicted"] == pytest.approx(row["measured"], rel=0.02), part
    assert sum(found["memory"]["table optimizer state"]["measured"]) > 0


def test_stages_add_up_to_the_step_on_every_rank(two: Path):
    measured = read_run(str(two)).measured
    for rank in measured.by_rank:
        assert rank.time is not None and 3 <= len(rank.time.step) == len(rank.rows)
        for i, step in enumerate(rank.time.step):
            stages = {name: values[i] for name, values in rank.time.stages.items()}
            assert sum(stages.values()) == pytest.approx(step)
            assert min(stages.values()) >= 0
            needed = (
                "ids",
                "lookup",
                "vectors",
                "dense_forward",
                "dense_backward",
                "vectors_back",
                "update",
                "optimizer",
            )
            assert all(stages[name] > 0 for name in needed)
        assert set(rank.rows) == {75}
        assert 0 < rank.elements["hist0.item_id"] <= 40 and rank.elements["user_id"] == 1
    steps = [sum(rank.time.step) for rank in measured.by_rank if rank.time]
    assert steps[0] == pytest.approx(steps[1], rel=0.2)  # they wait for each other


@pytest.mark.slow
def test_a_calibrated_cluster_predicts_the_run_it_is_from(two_processes: Path, tmp_path: Path, capsys):
    out = tmp_path / "here.yaml"
    before = scored(two_processes, capsys, out=str(out))
    after = scored(two_processes, capsys, cluster=str(out))
    step = before["time"][STEP]["measured"][0]
    assert abs(before["time"][STEP]["error"]) > 0.5  # a c6i.32xlarge it is not
    assert after["time"][STEP]["predicted"][0] == pytest.approx(step, rel=0.02)
    for stage in ("dense forward", "dense backward"):
        assert after["time"][stage]["predicted"] == pytest.approx(after["time"][stage]["measured"], rel=0.02)
    assert after["memory"]["runtime"]["predicted"][0] == pytest.approx(
        max(before["memory"]["runtime"]["measured"]), rel=0.01
    )
    note = load_cluster(str(out)).calibration
    assert note is not None and (note.ranks, note.batch_sizes) == ((2,), (75,)) and "torch" in note.versions


def test_the_command_says_what_it_found(two: Path, capsys):
    assert score_runs([str(two)]) == 0
    text = capsys.readouterr().out
    assert "Predicted for cluster cpu" in text and "peak within 15%: " in text and "dense backward" in text


def test_too_few_steps_measure_memory_only_and_say_so(four: Path, tmp_path: Path, capsys):
    found = scored(four, capsys)
    assert found["time"] == {} and "of 3 step(s) 0 could be timed" in found["why_no_time"]
    assert typical_steps(read_run(str(four))) is None
    scored(four, capsys, out=str(tmp_path / "c.yaml"))
    found, cpu = load_cluster(str(tmp_path / "c.yaml")), load_cluster("cpu")
    assert found.efficiency == cpu.efficiency and found.overhead.runtime_mib and found.calibration
    assert not found.calibration.timed and found.origin == "Assumed, not measured"


def test_processes_share_a_node_as_in_the_run(four: Path):
    cluster, job = cluster_of(read_run(str(four)), None)
    assert cluster.devices_per_node == 4 and job == "cluster cpu with the run's 4 rank(s) a node"


def changed(run: Path, folder: Path, change, name: str = "measured.json") -> str:
    """A copy of the run with something else in a file."""
    copy = folder / "copy"
    shutil.copytree(run, copy)
    tree = json.loads((copy / name).read_text())
    change(tree)
    (copy / name).write_text(json.dumps(tree))
    return str(copy)


def of_rows(run: Path, folder: Path, times: int) -> str:
    """The run as it would be with `times` its rows, if 30% of each stage were the same for every batch."""
    copy = folder / f"rows{75 * times}"
    shutil.copytree(run, copy)
    config = yaml.safe_load((copy / "config.yaml").read_text())
    config["data"]["batch_size"] = 75 * times
    (copy / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    tree = json.loads((copy / "measured.json").read_text())
    for rank in tree["by_rank"]:
        time, factor = rank["time"], 0.3 + 0.7 * times
        time["step"] = [step * factor for step in time["step"]]
        time["stages"] = {name: [ms * factor for ms in taken] for name, taken in time["stages"].items()}
        rank["rows"] = [rows * times for rows in rank["rows"]]
    (copy / "measured.json").write_text(json.dumps(tree))
    return str(copy)


def test_runs_of_two_sizes_tell_latency_from_bandwidth_and_a_third_is_predicted(two: Path, tmp_path: Path, capsys):
    small, large, between = (of_rows(two, tmp_path, times) for times in (1, 16, 4))
    out = str(tmp_path / "here.yaml")
    assert score_runs([small, large], out=out) == 0
    text = capsys.readouterr().out
    assert "rows75, 75 rows" in text and "rows1200, 1,200 rows" in text
    note = load_cluster(out).calibration
    assert note is not None and note.batch_sizes == (75, 1200) and len(note.runs) == 2
    assert score_runs([small, between, large], cluster=out, as_json=True) == 0
    for run in json.loads(capsys.readouterr().out)["runs"]:
        assert abs(run["time"][STEP]["error"]) < 0.2, run["batch_size"]
    assert load_cluster(out).efficiency.stage_ms["lookup"] > 0


def test_runs_of_different_numbers_of_ranks_a_node_calibrate_nothing(two: Path, four: Path, tmp_path: Path):
    with pytest.raises(InputError, match="runs of 2 and 4 ranks a node"):
        score_runs([str(two), str(four)], out=str(tmp_path / "c.yaml"))


def test_what_cannot_be_scored_is_refused(two: Path, tmp_path: Path):
    with pytest.raises(InputError, match=r"is not a run folder: it has no config\.yaml"):
        score_runs([str(tmp_path)])
    with pytest.raises(InputError, match="was on cpu, cluster 'dgx-h100' is for cuda"):
        score_runs([str(two)], "dgx-h100")
    with pytest.raises(InputError, match="neither known"):
        score_runs([str(two)], "nowhere")
    with pytest.raises(InputError, match=r"ends in \.yaml"):
        score_runs([str(two)], out=str(tmp_path / "c.json"))
    old = tmp_path / "old"
    shutil.copytree(two, old)
    (old / "measured.json").unlink()
    with pytest.raises(InputError, match=r"has no measured\.json: it was trained by an earlier release"):
        score_runs([str(old)])
    (old / "measured.json").write_text("{}")
    with pytest.raises(InputError, match="is not of format 2: format"):
        score_runs([str(old)])


def test_a_run_on_gpus_needs_its_cluster(two: Path, tmp_path: Path):
    with pytest.raises(InputError, match="was on GPUs: name the machine with --cluster"):
        score_runs([changed(two, tmp_path, lambda tree: tree.update(device="cuda"))])


def test_a_rank_that_lacks_is_named(two: Path, tmp_path: Path):
    with pytest.raises(InputError, match="2 ranks, measurements of 1"):
        score_runs([changed(two, tmp_path, lambda tree: tree["by_rank"].pop())])


def test_a_plan_of_other_sizes_is_refused(two: Path, tmp_path: Path):
    def grow(tree: dict[str, Any]) -> None:
        tree["tables"]["user_id"]["shards"][0][3] += 1

    with pytest.raises(InputError, match="'user_id'"):
        score_runs([changed(two, tmp_path, grow, "plan.json")])


def test_the_peak_is_of_the_training_steps_where_the_system_can_tell(two: Path):
    read = read_run(str(two))
    cluster, job = cluster_of(read, None)
    assert {rank.peak_of for rank in read.measured.by_rank} == {"training steps"}
    assert score(read, cluster, job).row("peak").error is not None


def test_the_file_is_a_cluster_file_like_the_others(two: Path, tmp_path: Path, capsys):
    scored(two, capsys, out=str(tmp_path / "c.yaml"))
    tree = yaml.safe_load((tmp_path / "c.yaml").read_text())
    assert tree["sources"] and tree["efficiency"]["matmul"] < 0.25
    assert tree["calibration"]["fitted"]["efficiency.fixed_ms, row_us"].startswith("what no other number explains")


def test_a_better_plan_for_the_run_costs_what_is_said_and_is_never_slower(two: Path, tmp_path: Path, capsys):
    out = str(tmp_path / "better.json")
    assert improve_run(str(two), out=out, as_json=True, trust=True) == 0
    found = json.loads(capsys.readouterr().out)
    run = read_run(str(two), trust=True)
    now = score(run, *cluster_of(run, None)).placed
    better = read_plan(out)
    new = placed_of_plan(now.problem.changed(exchange=better.exchange), better.tables)
    assert found["now_ms"] == pytest.approx(now.time.total) and found["new_ms"] == pytest.approx(new.time.total)
    assert 0 <= found["gain_ms"] == pytest.approx(now.time.total - new.time.total)
    assert found["measured_ms"] == pytest.approx(score(run, *cluster_of(run, None)).row(STEP).measured[0])
    same = {name for name, table in better.tables.items() if table.shards == run.plan[name].shards}
    assert not same & set(found["moved_tables"]) and len(found["arriving_bytes"]) == 2
