"""Open-loop load over loopback, in a process of its own. In: a plan on standard input; out: a Sent as JSON on standard output.

    python -m benchmarks.serving.load <<< '{"port": 8000, "path": "/v1/rank", "bodies": "FILE", "rate": 50, "seconds": 5, "connections": 9}'

Requests are due at times drawn beforehand (Poisson, seeded), whatever the answers do, and latency counts from the time a request was due:
one that waits for a connection, or for the server, is late by all of it. `rate` 0: every request is due at once, which keeps all
connections busy. At most `most` requests are sent. FILE holds a JSON list of bodies, used in turn.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

GRACE = 60.0  # seconds beyond the plan's, for the last answers


@dataclass(frozen=True)
class Plan:
    """What is sent."""

    port: int
    path: str
    bodies: str  # file
    rate: float  # requests a second; 0: all at once
    seconds: float
    connections: int
    most: int = 100_000
    method: str = "POST"
    seed: int = 0


@dataclass
class Sent:
    """What came of it."""

    statuses: dict[str, int]  # status -> requests; "none": the connection broke, "unsent": the time was over first
    seconds: float  # from the first due time to the last answer
    # p50, p90, p99 and most of the answers with 200, from the due time
    ms: dict[str, float] = field(default_factory=dict)
    refused_ms: dict[str, float] = field(default_factory=dict)  # of those with 429

    @property
    def answered(self) -> int:
        """With 200."""
        return self.statuses.get("200", 0)

    def share(self, status: int) -> float:
        """Of all that were due."""
        return self.statuses.get(str(status), 0) / max(1, sum(self.statuses.values()))


def send(plan: Plan) -> Sent:
    """Run the generator as a process and wait for it."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serving.load"],
        input=json.dumps(vars(plan)),
        capture_output=True,
        encoding="utf-8",
        timeout=plan.seconds + 3 * GRACE,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the load generator failed: {done.stderr[-2000:]}")
    return Sent(**json.loads(done.stdout))


class Generator:
    """One run of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        bodies = [json.dumps(body).encode() for body in json.loads(Path(plan.bodies).read_text(encoding="utf-8"))]
        head = f"{plan.method} {plan.path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        self._requests = [f"{head}content-length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
        self._taken: dict[str, list[float]] = {"200": [], "429": []}
        self._statuses: Counter[str] = Counter()

    async def run(self) -> Sent:
        """All of it."""
        plan, began = self._plan, time.perf_counter() + 0.05
        due: asyncio.Queue[tuple[int, float]] = asyncio.Queue()
        end = began + plan.seconds + (GRACE if plan.rate else 0.0)
        senders = [asyncio.create_task(self._connection(due, end)) for _ in range(plan.connections)]
        for number, at in enumerate(self._due()):
            ahead = began + at - time.perf_counter()
            if ahead > 0:
                await asyncio.sleep(ahead)
            due.put_nowait((number, began + at))
        for _ in senders:
            due.put_nowait((-1, 0.0))
        await asyncio.gather(*senders)
        seconds = time.perf_counter() - began
        return Sent(dict(self._statuses), seconds, _percentiles(self._taken["200"]), _percentiles(self._taken["429"]))

    def _due(self) -> list[float]:
        """Seconds after the beginning."""
        plan = self._plan
        if not plan.rate:
            return [0.0] * plan.most
        gaps = np.random.default_rng(plan.seed).exponential(
            1 / plan.rate, min(plan.most, int(2 * plan.rate * plan.seconds) + 10)
        )
        times = np.cumsum(gaps)
        return times[times < plan.seconds].tolist()

    async def _connection(self, due: asyncio.Queue[tuple[int, float]], end: float) -> None:
        """One connection, opened again where it breaks; a request at a time."""
        reader = writer = None
        while (item := await due.get())[0] >= 0:
            number, at = item
            if time.perf_counter() > end:
                self._statuses["unsent"] += bool(self._plan.rate)
                continue
            try:
                if writer is None or reader is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._plan.port)
                writer.write(self._requests[number % len(self._requests)])
                status, closed = await asyncio.wait_for(_answer(reader), GRACE)
            except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, ValueError):
                status, closed = "none", True
            self._statuses[status] += 1
            if status in self._taken:
                self._taken[status].append(time.perf_counter() - at)
            if closed and writer is not None:
                writer.close()
                reader = writer = None
        if writer is not None:
            writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[str, bool]:
    """The status of an answer that was read to its end, and whether the server closes the connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status, length = head[9:12].decode(), 0
    for line in head.split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line[15:])
    await reader.readexactly(length)
    return status, b"connection: close" in head


def _percentiles(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    found = np.percentile(seconds, [50, 90, 99, 100]) * 1e3
    return dict(zip(("p50", "p90", "p99", "most"), found.round(3).tolist(), strict=True))


def main() -> None:
    """A plan comes in, a Sent goes out."""
    plan: dict[str, Any] = json.load(sys.stdin)
    sent = asyncio.run(Generator(Plan(**plan)).run())
    json.dump(vars(sent), sys.stdout)


if __name__ == "__main__":
    main()
