"""A real torchrun job to attack. In: a config and torchrun's options; out: its processes to kill, its files and logs to read.

Every process of a job has the job's mark, in its name where it is forked (tests/torchrun.py), else in its environment.
Leaving the job ends all that have it, orphans and stopped ones too, so nothing survives a test that fails.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import psutil

from interformer_rec.data.recipes.catalog import prepare
from interformer_rec.storage import Storage
from tests import torchrun
from tests.checkpoint.damage import damage
from tests.training.conftest import OPTIONS, SMALL

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
ROWS = int(OPTIONS["rows"])
MARK = "INTERFORMER_FAULT_JOB"
GONE = (psutil.NoSuchProcess, psutil.AccessDenied)
# Seconds. No step of a busy machine may take HANG, which tests wait out; LATE more may pass until what they wait for is seen.
HANG, STOP, LATE = 10, 60, 110
# A small model on 1,501 rows: 6 steps an epoch on two ranks, 12 on one. Every step is logged, every fourth one is saved.
SETTINGS = (
    *SMALL, "data.valid=null", "data.test=null", "training.log_every_steps=1", "training.checkpoint.every_steps=4",
    f"training.hang_seconds={HANG}", f"training.stop_seconds={STOP}",
)  # fmt: skip
ONE_HOST = ("--standalone", "--nproc-per-node=2")
# torchrun's own times, shortened: seconds until a silent agent is dropped (1 x 3), and that a meeting waits for more nodes.
MEETING = "keep_alive_interval=1,keep_alive_max_attempt=3,last_call_timeout=4,join_timeout=60,read_timeout=60"
# Without it torch 2.13 hands the addresses of dead ranks to those that start again (docs/guides/faults.md).
OWN_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


def prepare_data(folder: Path) -> Path:
    """A small synthetic data set; returns its config."""
    prepare("synthetic", str(folder), None, OPTIONS)
    return folder / "config.yaml"


class Agent:
    """One torchrun with its workers."""

    def __init__(self, process: subprocess.Popen[bytes] | torchrun.Agent, log: Path) -> None:
        self.process, self.log = process, log

    def workers(self) -> dict[int, psutil.Process]:
        """Its live workers by rank; {} while it has none."""
        found = {}
        try:
            for child in psutil.Process(self.process.pid).children():
                # What a forked process shows as its environment is that of the process that pytest has started.
                forked = isinstance(self.process, torchrun.Agent)
                rank = child.name().partition(".")[2] if forked else child.environ().get("RANK")
                if rank and child.status() != psutil.STATUS_ZOMBIE:
                    found[int(rank)] = child
        except GONE:
            pass
        return found

    def kill(self) -> None:
        """kill -9 of the agent alone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def kill_host(self) -> None:
        """What a host that loses power does: agent and workers are gone at once."""
        self.process.send_signal(signal.SIGSTOP)  # it starts no more workers
        for one in (psutil.Process(self.process.pid), *self.workers().values()):
            one.kill()
        self.process.wait()


class Job:
    """A run folder and the agents that train it. A context manager; nothing is left running behind it.

    `forked`: agents and ranks are forked from a process that has loaded torch, else started as a user starts them.
    """

    def __init__(self, folder: Path, config: Path, *settings: str, forked: bool = True) -> None:
        self.folder, self.config, self.run, self.forked = folder, config, folder / "run", forked
        self.settings = (*SETTINGS, *settings)
        self.mark = uuid.uuid4().hex[:8]
        self.agents: list[Agent] = []
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Job:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while found := self.processes():  # again, until nobody has started another one
            for process in found:
                process.kill()  # a stopped process dies of it, too
            psutil.wait_procs(found, timeout=10)
        for agent in self.agents:
            agent.process.wait()

    def start(self, *options: str, inside: tuple[str, ...] = (), env: dict[str, str] | None = None) -> Agent:
        """`torchrun OPTIONS ... train --resume`; `inside`: a command that enters a host and runs what follows."""
        log = self.folder / f"agent-{len(self.agents)}.log"
        logs = ("--log-dir", str(log.with_suffix("")), "--redirects", "3")
        settings = [f"--set={setting}" for setting in (*self.settings, f"training.out={self.run}")]
        train = ("-m", "interformer_rec.cli", "train", str(self.config), "--resume", *settings)
        command = [*(options or ONE_HOST), *logs, *train]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
        process: subprocess.Popen[bytes] | torchrun.Agent
        if self.forked:
            assert not inside, "what is forked is on the host of the test"
            process = torchrun.Agent(command, {**environment, torchrun.JOB: self.mark}, log)
        else:
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [*inside, sys.executable, "-m", "torch.distributed.run", *command],
                    env={**environment, MARK: self.mark},
                    cwd=ROOT,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,  # no signal of the terminal or of pytest reaches it
                )
        self.agents.append(Agent(process, log))
        return self.agents[-1]

    def processes(self) -> list[psutil.Process]:
        """Every live process of this job, those without a parent too."""
        found = []
        for process in psutil.process_iter():
            try:
                marked = process.name().startswith(self.mark) or process.environ().get(MARK) == self.mark
                if marked and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except GONE:
                continue
        return found

    def wait_for(self, what: str, condition: Callable[[], T], seconds: float = 2 * LATE, pause: float = 0.02) -> T:
        """The first true value of `condition`. Fails with all logs if there is none within `seconds`."""
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < deadline, f"no {what} within {seconds} s\n{self.logs()}"
            time.sleep(pause)
        return value

    def wait_for_step(self, step: int, agent: Agent, ranks: int = 2) -> None:
        """Until the log has got as far, on so many ranks, while the agent lives."""

        def reached() -> bool:
            records = self.records()[-1:]
            if records and records[0]["step"] >= step and ranks_of(records[0]) == ranks:
                return True
            assert agent.process.poll() is None, f"the agent ended before step {step}\n{self.logs()}"
            return False

        self.wait_for(f"step {step} on {ranks} ranks", reached)

    def finish(self, agent: Agent, seconds: float = 2 * LATE) -> int:
        """The agent's exit code, once it has one."""
        self.wait_for("end of the agent", lambda: agent.process.poll() is not None, seconds)
        return agent.process.wait()

    def log(self) -> list[dict[str, Any]]:
        """The train records of metrics.jsonl as they were written; steps that were done over come twice."""
        try:
            lines = (self.run / "metrics.jsonl").read_text().split("\n")
        except FileNotFoundError:
            return []
        # A killed process may leave half a line.
        found = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [record for record in found if record["split"] == "train"]

    def records(self) -> list[dict[str, Any]]:
        """The train records that hold: where a run went on from an earlier step, what it did over is dropped."""
        kept: list[dict[str, Any]] = []
        for record in self.log():
            while kept and kept[-1]["step"] >= record["step"]:
                kept.pop()
            kept.append(record)
        return kept

    def step(self) -> int:
        """The last step in the log, 0 before the first."""
        return int(self.records()[-1]["step"]) if self.log() else 0

    def rows_by_epoch(self) -> dict[int, int]:
        """Rows trained in each epoch, by the records that hold."""
        rows: dict[int, int] = defaultdict(int)
        for record in self.records():
            rows[record["epoch"]] += int(record["rows"])
        return dict(rows)

    def wait_for_whole_epochs(self) -> None:
        """Until two epochs are over, then check that all that are have read every row once."""
        self.wait_for("third epoch", lambda: len(self.rows_by_epoch()) > 2)
        rows = list(self.rows_by_epoch().values())[:-1]
        assert set(rows) == {ROWS}, rows

    def committed(self) -> list[int]:
        """Steps of the checkpoints that were finished: those with a manifest."""
        return sorted(int(path.parent.name.split("-")[1]) for path in self.run.glob("checkpoints/step-*/manifest.json"))

    def damaged(self) -> list[str]:
        """What is wrong with the finished checkpoints; every byte of them is read.

        Training may go on meanwhile. A checkpoint that it removes is not damaged: its manifest goes first.
        """
        found = {
            step: damage(Storage.open(str(self.run / "checkpoints" / f"step-{step:08d}"))) for step in self.committed()
        }
        still = set(self.committed())
        return [sentence for step, sentences in found.items() if step in still for sentence in sentences]

    def weights(self) -> dict[str, bytes]:
        """The files of the last checkpoint: tables with their optimizer state, dense part."""
        folder = self.run / "checkpoints" / f"step-{self.committed()[-1]:08d}"
        return {path.name: path.read_bytes() for path in sorted(folder.glob("*.safetensors"))}

    def logs(self) -> str:
        """What agents and workers have said, in the order of agents and attempts."""
        found = []
        for agent in self.agents:
            for path in (agent.log, *sorted(agent.log.with_suffix("").rglob("*.log"))):
                found.append(f"== {path.relative_to(self.folder)}\n{path.read_text(errors='replace')}")
        return "\n".join(found)


def ranks_of(record: dict[str, Any]) -> int:
    """How many ranks did a step: one has at most a batch of 128 rows. (Two may have fewer in the last step of an epoch.)"""
    return 1 if record["rows"] <= 128 else 2


def alive(process: psutil.Process) -> bool:
    """Neither gone nor waiting to be reaped."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except GONE:
        return False
