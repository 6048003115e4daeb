"""A process beside training that exports when it is asked to, and stays for the next time. In: arguments of an export; out: what it says.

Neither its memory nor its end is training's. What it is and when it ends by itself: interformer_rec/serving/making/jobs.py.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import IO, Any

MODULE = "interformer_rec.serving.making.jobs"  # by name: serving stands above training
OF_A_JOB = ("TORCHELASTIC_", "TORCH_NCCL_", "NCCL_", "GROUP_", "ROLE_")  # prefixes of what torchrun tells its ranks
OF_A_RANK = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}


class Exporter:
    """One export at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._asked: bytes | None = None  # a line that is not answered yet
        self._again = False  # it was asked a second time

    def ask(self, arguments: Mapping[str, Any]) -> None:
        """Begin an export."""
        self._asked, self._again = json.dumps(dict(arguments)).encode() + b"\n", False
        self._send(self._asked)

    def answer(self) -> dict[str, Any] | None:
        """{"done": what was published} or {"failed": why nothing was}; None while it is at work."""
        assert self._asked is not None and self._process is not None and self._process.stdout is not None
        ended = self._process.poll() is not None
        if not ended and not select.select([self._process.stdout], [], [], 0)[0]:
            return None
        line = self._process.stdout.readline()
        if not line and not ended:  # it has closed its side and is about to end
            return None
        if not line and self._process.returncode == 0 and not self._again:  # it had been idle for long
            self._again = True
            self._send(self._asked)
            return None
        self._asked = None
        found: dict[str, Any] = json.loads(line) if line else {"failed": self._reason()}
        return found

    def stop(self) -> None:
        """End it, whatever it does: what it publishes is whole or not there."""
        if self._process is None:
            return
        self._process.terminate()
        self._process.wait()
        self._close()
        self._asked = None

    def _send(self, line: bytes) -> None:
        if self._process is not None and self._process.poll() is not None:
            self._close()
        if self._process is None:
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - _close closes it
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(
                [sys.executable, "-m", MODULE], stdin=pipe, stdout=pipe, stderr=self._errors, env=_alone()
            )
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except BrokenPipeError:  # it has just ended, which `answer` sees
            return

    def _reason(self) -> str:
        assert self._process is not None and self._errors is not None
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip()
        return said.rpartition("\n")[2] or f"exit code {self._process.returncode}"

    def _close(self) -> None:
        assert self._process is not None and self._errors is not None
        for one in (self._process.stdin, self._process.stdout, self._errors):
            try:
                assert one is not None
                one.close()
            except BrokenPipeError:
                pass
        self._process = self._errors = None


def _alone() -> dict[str, str]:
    """The environment without the job's ranks and devices."""
    kept = {k: v for k, v in os.environ.items() if k not in OF_A_RANK and not k.startswith(OF_A_JOB)}
    return {**kept, "CUDA_VISIBLE_DEVICES": ""}
