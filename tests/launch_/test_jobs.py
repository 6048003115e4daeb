"""Jobs that really run: TorchX starts them, two ranks train, the files a run leaves say so."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from tests.launch_ import slurm
from tests.launch_.conftest import BIN, ROOT, short_run

# Each process of a job loads torch, TorchRec and FBGEMM: some ten seconds of CPU time a job.
pytestmark = pytest.mark.slow
COMPONENTS = f"{ROOT}/launch/components.py"


def torchx(*arguments: str, env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "torchx"), "run", *arguments]
    return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=300)


def check_trained(run: Path, ranks: int) -> None:
    """One epoch of 1,501 rows on `ranks` ranks, every row once, and a tested checkpoint."""
    assert json.loads((run / "environment.json").read_text())["ranks"] == ranks
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    records = [record for record in lines if record["split"] != "checkpoint"]
    assert [record["split"] for record in records][-2:] == ["valid", "test"]
    assert sum(record["rows"] for record in records if record["split"] == "train") == 1501
    assert all(0 < record["label/logloss"] < 1 for record in records[-2:])
    assert list((run / "checkpoints").glob("step-*"))


@pytest.mark.parametrize("size", ["1x2", "2x1"])
def test_component_trains_on_two_ranks(config, job_env, tmp_path, size):
    arguments = ["-s", "local_cwd", f"{COMPONENTS}:train", "-j", size, "--cpu", "1", "--config", str(config), "--"]
    done = torchx(*arguments, *short_run(tmp_path / "run"), env=job_env, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    check_trained(tmp_path / "run", ranks=2)


def test_plain_ddp_trains_on_two_agents(config, job_env, tmp_path):
    command = ["dist.ddp", "-j", "2x1", "-m", "interformer_rec.cli", "--", "train", str(config)]
    done = torchx("-s", "local_cwd", *command, *short_run(tmp_path / "run"), env=job_env, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    check_trained(tmp_path / "run", ranks=2)


def test_slurm_trains_on_two_nodes(config, job_env, tmp_path):
    """TorchX makes a heterogeneous job of one component a node; the ranks meet at the first node's name."""
    reason = slurm.missing()
    if reason:
        pytest.skip(reason)
    (tmp_path / "slurm").mkdir()
    (tmp_path / "job").mkdir()
    with slurm.cluster(tmp_path / "slurm") as slurm_env:
        env = {**job_env, "SLURM_CONF": slurm_env["SLURM_CONF"]}
        resources = ["-j", "2x1", "--cpu", "2", "--memMB", "3000", "--shmMB", "100"]
        command = ["-s", "slurm", "-cfg", "partition=test", f"{COMPONENTS}:train", *resources, "--config", str(config)]
        sent = torchx(*command, "--", *short_run(tmp_path / "run"), env=env, cwd=tmp_path / "job")
        # The exit code is not asked: without accounting (slurmdbd) the status query after submission fails.
        handle = sent.stdout.strip().splitlines()[-1:]
        assert handle == ["slurm://torchx/1"], sent.stdout + sent.stderr
        states = wait(env)
        logs = "\n".join(f"{path.name}:\n{path.read_text()[-3000:]}" for path in (tmp_path / "job").glob("slurm-*"))
        assert states == {"train-0": "COMPLETED", "train-1": "COMPLETED"}, logs
    check_trained(tmp_path / "run", ranks=2)


def wait(env: dict[str, str]) -> dict[str, str]:
    """Names and final states of all jobs."""
    deadline = time.monotonic() + 240
    while True:
        asked = subprocess.run(["scontrol", "show", "job", "-o"], env=env, capture_output=True, text=True, check=True)
        jobs = [dict(item.split("=", 1) for item in line.split() if "=" in item) for line in asked.stdout.splitlines()]
        states = {job["JobName"]: job["JobState"] for job in jobs if "JobName" in job}
        if (
            not {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING"} & set(states.values())
            or time.monotonic() > deadline
        ):
            return states
        time.sleep(0.5)
