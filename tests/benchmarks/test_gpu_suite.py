"""The GPU suite, on a CPU: parts run and are merged, one that fails or hangs is a row, targets say what was met."""

from __future__ import annotations

import json
import os
import sys
import time

import pytest

from benchmarks import gpu_suite
from benchmarks.gpu.parts import Part, parts
from benchmarks.gpu.targets import datasheet, targets
from benchmarks.gpu_suite import run_part
from benchmarks.harness import plot
from benchmarks.harness.result_file import read_result

# Writes a result to the path it is given, then does not end, and neither does its child.
HANGS = """
import json, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
json.dump({"benchmark": "x", "cases": [{"p50_ms": 1.0, "child": child.pid}]}, open(sys.argv[2], "w"))
time.sleep(600)
"""


@pytest.mark.slow
def test_command(tmp_path, monkeypatch, capsys):
    """Two real parts and one that cannot run here; their cases lie in one list that the other tools read."""
    result = tmp_path / "suite.json"
    monkeypatch.setattr(
        "benchmarks.gpu_suite.parts", lambda *_: {**parts("cpu", True), "broken": Part(["-c", "import nothing_such"])}
    )
    command = ["gpu_suite", "--device", "cpu", "--quick", "--json", str(result), "--log", str(tmp_path / "log")]
    monkeypatch.setattr(sys, "argv", [*command, "--parts", "broken,padded"])
    assert gpu_suite.main() == 1
    found = read_result(str(result))
    assert [(part["part"], part["status"]) for part in found["parts"]] == [("broken", "failed"), ("padded", "ok")]
    assert "No module named 'nothing_such'" in found["parts"][0]["error"]
    assert {case["part"] for case in found["cases"]} == {"padded"} and found["parts"][1]["result"]["ceiling_flops"] > 0
    assert "MFU of training" in capsys.readouterr().out
    assert (tmp_path / "log" / "padded.log").read_text()
    monkeypatch.setattr(sys, "argv", ["plot", str(result), "--part", "padded"])
    assert plot.main() == 0 and (tmp_path / "suite.png").exists()
    monkeypatch.setattr(sys, "argv", [*command, "--parts", "paded"])
    with pytest.raises(SystemExit):
        gpu_suite.main()
    assert "'paded' is none of environment, tests, mfu" in capsys.readouterr().err


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
        with open(f"/proc/{process}/stat", encoding="ascii") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"  # ended, and nobody has asked yet
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_part_that_hangs_is_stopped_and_keeps_what_it_measured():
    row = run_part("hangs", Part(["-c", HANGS]), 3.0, None)
    assert row["status"] == "stopped" and row["error"] == "stopped after 3 s" and row["seconds"] < 30
    (case,) = row["result"]["cases"]
    for _ in range(100):
        if not alive(case["child"]):
            break
        time.sleep(0.1)
    assert not alive(case["child"])


def test_datasheets_are_those_of_the_cluster_files():
    assert datasheet("NVIDIA H200") == datasheet("NVIDIA H100 80GB HBM3") == 989e12
    assert datasheet("NVIDIA B200") == 2250e12 and datasheet("NVIDIA A100-SXM4-80GB") == 312e12
    assert datasheet("AMD EPYC") is None


def test_parts_for_which_no_time_is_left_are_named(tmp_path, monkeypatch):
    command = ["gpu_suite", "--device", "cpu", "--quick", "--json", str(tmp_path / "suite.json"), "--budget", "0"]
    monkeypatch.setattr(sys, "argv", [*command, "--parts", "mfu"])
    gpu_suite.main()
    (row,) = read_result(str(tmp_path / "suite.json"))["parts"]
    assert (row["status"], row["error"]) == ("skipped", "no time was left for it")


@pytest.mark.parametrize("quick", [False, True])
def test_every_part_is_a_command_of_this_repository(quick):
    for name, part in parts("cuda", quick).items():
        if not part.missing:
            assert part.arguments[0] == "-m"
            module = part.arguments[1]
            path = gpu_suite.ROOT / module.replace(".", "/")
            assert module == "pytest" or path.with_suffix(".py").exists() or (path / "__main__.py").exists(), name


def kernel(alternative: str, share: float, times: float, **what):
    row = {"part": "k", "operator": "attention", "direction": "step", "d": 128, "heads": 1, "longest": 1024}
    return {**row, "alternative": alternative, "of_ceiling": share, "times_ours": times, **what}


def test_targets_take_the_worst_and_say_when_nothing_was_measured():
    model = {
        "part": "mfu",
        "variant": "jagged",
        "mfu": 0.31,
        "flops_per_second": 0.2 * 989e12,
        "workload": "wide",
        "d": 256,
        "layers": 3,
        "longest": 1024,
    }
    cases = [
        model,
        {**model, "d": 512, "mfu": 0.1},
        {"part": "mfu", "variant": "jagged", "error": "out of memory"},
        {"part": "requests", "candidates": 8, "longest": 1024, "times_faster": {"median": 4.0}},
        kernel("ours", 0.7, 1.0),
        kernel("ours", 0.5, 1.0, longest=256),
        kernel("ours", 0.1, 1.0, d=64),  # narrower than the target
        kernel("SDPA padded, compiled", 0.2, 3.5),
        {"part": "k", "operator": "attention", "d": 128, "alternative": "flex, compiled", "error": "cannot run"},
    ]
    found = {goal["target"]: goal for goal in targets(json.loads(json.dumps(cases)), "NVIDIA H100 80GB HBM3")}
    assert found["MFU of training, T = 1024, of the measured ceiling"]["passed"] is True
    quoted = found["MFU of training, T = 1024, of the datasheet"]
    assert (quoted["passed"], round(quoted["measured"], 6), quoted["wanted"]) == (False, 0.2, 0.3)
    assert found["MFU of training, T = 4096, of the datasheet"]["passed"] is None
    assert found["request rows, 8 candidates: times impressions"]["measured"] == 4.0
    share = found["attention, step: of the matmul ceiling"]
    assert (share["passed"], share["measured"], share["where"]) == (False, 0.5, "d 128 heads 1 longest 256")
    assert found["attention, step: times padded, compiled"]["passed"] is True
    assert found["tables, step: of a copy"] == {
        "target": "tables, step: of a copy",
        "where": "",
        "wanted": 0.7,
        "measured": None,
        "passed": None,
    }
