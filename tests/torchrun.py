"""torchrun whose agent and ranks are forked from a process that has loaded torch: torch's own agent, without each process's imports.

Where torch's agent starts a program, `Forked` takes the place of subprocess.Popen. A process is known by its name (`ps -o comm`):
the job's for the agent, and JOB.RANK for a rank. tests/launch_ starts torchrun as a user does.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler
from torch.distributed.run import main

from tests.forked import CONTEXT

JOB = "INTERFORMER_TEST_JOB"  # at most 9 characters: a process's name has 15


class Forked:
    """What torch's agent needs of subprocess.Popen, for `python -u -m MODULE ARGUMENTS`."""

    def __init__(
        self,
        args: tuple[str, ...],
        env: Mapping[str, str],
        stdout: TextIOWrapper | None,
        stderr: TextIOWrapper | None,
        start_new_session: bool,
    ) -> None:
        assert args[1:3] == ("-u", "-m") and start_new_session, args
        self.args, self.returncode = args, None
        self.pid = os.fork()
        if self.pid == 0:
            become(env, f"{env[JOB]}.{env['RANK']}", *(file and file.fileno() for file in (stdout, stderr)))
            run_module(*args[3:])
        while os.getpgid(self.pid) != self.pid:  # the agent sends its signals to the group
            time.sleep(0.001)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float = float("inf")) -> int:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.01)
        assert self.returncode is not None
        return self.returncode


class Agent:
    """A torchrun that goes on, as subprocess.Popen has it."""

    def __init__(self, command: list[str], env: Mapping[str, str], log: Path) -> None:
        log.touch()
        self.process: Any = CONTEXT.Process(target=_agent, args=(command, dict(env), str(log)), daemon=True)
        self.process.start()
        self.pid: int = self.process.pid

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        return self.process.exitcode

    def wait(self, seconds: float = 60) -> int:
        deadline = time.monotonic() + seconds
        while (code := self.poll()) is None:
            assert time.monotonic() < deadline, f"the agent runs after {seconds} s"
            time.sleep(0.02)
        return code

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


def finished(folder: Path, *command: object, ranks: int = 2, limit: float = 120) -> tuple[int, str]:
    """`torchrun --standalone --nproc-per-node RANKS COMMAND` to its end: exit code, and what agent and ranks printed."""
    log = folder / "torchrun.log"
    options = ["--standalone", f"--nproc-per-node={ranks}"]
    agent = Agent([*options, *map(str, command)], {**os.environ, "OMP_NUM_THREADS": "1", JOB: f"j{os.getpid()}"}, log)
    try:
        return agent.wait(limit), log.read_text(encoding="utf-8")
    finally:
        if agent.poll() is None:
            agent.send_signal(signal.SIGTERM)


def become(env: Mapping[str, str], name: str, stdout: int | None, stderr: int | None) -> None:
    """In a forked process: what exec would leave of the one before. No handler, no open file, nothing of its environment."""
    os.setsid()
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for given, descriptor in ((stdout, 1), (stderr, 2)):
        if given is not None:
            os.dup2(given, descriptor)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(env)
    Path("/proc/self/comm").write_text(name)
    torch.set_num_threads(1)


def run_module(module: str, *arguments: str) -> None:
    """`python -m MODULE ARGUMENTS`, to the end of the process."""
    sys.argv = [module, *arguments]
    sys.modules.pop(module, None)
    _end(runpy.run_module, module, run_name="__main__", alter_sys=True)


def _agent(command: list[str], env: dict[str, str], log: str) -> None:
    """torchrun, to the end of the process."""
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    become(env, env[JOB], output, output)
    subprocess_handler.Popen = Forked
    _end(main, command)


def _end(function: Any, *args: Any, **options: Any) -> None:
    """Call it and exit as the interpreter would."""
    code = 0
    try:
        function(*args, **options)
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
