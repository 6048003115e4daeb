"""Servers over loopback: CPU of the server's process a request, latencies, refusals. In: exported models; out: rows of a result.

Servers run side by side and are asked in turns. `busy`: all requests are due at once over a few connections, which gives the CPU time a
request and the rate that a server reaches. `open`: requests come at a share of the slowest alternative's rate, for latencies from the
scheduled arrival. `overload`: twice the rate that the server reached. CPU time is the process's own (user and system), so that
other work on the machine does not count; latencies and rates are of the machine as it was.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.serving.load import Plan, Sent, send
from benchmarks.serving.models import Exported, draw

START_SECONDS = 180
SLOWER = 12  # times fewer requests to the plain server
USERS = 24  # different ones, asked in turn
CONNECTIONS = 16
DEADLINE_MS = 250.0  # of the overloaded server
QUEUE = 32


@dataclass(frozen=True)
class Traffic:
    """How much is sent."""

    requests: Mapping[int, int]  # candidates -> of a busy turn
    rounds: int
    turns: int  # of requests at a rate
    open_seconds: float  # of a turn
    overload_seconds: float


FULL = Traffic({1: 256, 50: 128, 500: 48}, rounds=3, turns=9, open_seconds=1.0, overload_seconds=4.0)
QUICK = Traffic({1: 32, 50: 16, 500: 4}, rounds=1, turns=1, open_seconds=0.5, overload_seconds=0.5)


@dataclass
class Running:
    """A server that listens."""

    process: subprocess.Popen[bytes]
    port: int
    served: dict[str, float] = field(default_factory=dict)

    def cpu_seconds(self) -> float:
        """Of all threads since it started."""
        ticks = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mb(self) -> float:
        """Memory."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def running(folder: Path, name: str, ready: str, *command: str) -> Iterator[Running]:
    """A server as a process with one thread for arithmetic; `ready`: the event of its log that says so."""
    log = folder / f"{name}.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], stderr=sink, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
    try:
        yield Running(process, _port(log, process, ready))
    finally:
        process.kill()
        process.wait()


def _port(log: Path, process: subprocess.Popen[bytes], ready: str) -> int:
    last = time.monotonic() + START_SECONDS
    while time.monotonic() < last and process.poll() is None:
        text = log.read_text(encoding="utf-8").rpartition("\n")[0]
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        if any(line["event"] == ready for line in lines):
            return int(next(line["port"] for line in lines if line["event"] == "listening"))
        time.sleep(0.1)
    raise RuntimeError(f"a server did not start: {log.read_text(encoding='utf-8')[-2000:]}")


def serve(exported: Exported, *options: str) -> list[str]:
    """The command of one of our servers on a free port."""
    return ["interformer_rec", "serve", str(exported.served["fp32"]), "--port", "0", *options]


def bodies(folder: Path, exported: Exported, events: int, candidates: int) -> str:
    """File of requests of different users."""
    path = folder / f"bodies-{events}-{candidates}.json"
    if not path.exists():
        made = [draw(exported.config.features, events, candidates, seed).body for seed in range(USERS)]
        path.write_text(json.dumps(made), encoding="utf-8")
    return str(path)


def measure_servers(
    folder: Path, exported: Exported, shapes: list[tuple[int, int]], traffic: Traffic
) -> Iterator[list[dict[str, Any]]]:
    """Batches across requests on and off, the cache on and off, and the plain server, for each (events, candidates)."""
    patient = ("--deadline-ms", "60000", "--cache-mb")
    commands = {
        "serve": serve(exported, *patient, "0"),
        "serve, one by one": serve(exported, *patient, "0", "--batch", "1"),
        "serve, cached": serve(exported, *patient, "64"),
        "plain": ["benchmarks.serving.plain_server", str(exported.run)],
    }
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(running(folder, name, "listening" if name == "plain" else "ready", *command))
            for name, command in commands.items()
        }
        for events, candidates in shapes:
            path = bodies(folder, exported, events, candidates)
            yield _shape(servers, path, events, candidates, traffic)
        yield _http_alone(folder, servers["serve"], traffic)


def _shape(
    servers: Mapping[str, Running], path: str, events: int, candidates: int, traffic: Traffic
) -> list[dict[str, Any]]:
    busy: dict[str, list[tuple[float, Sent]]] = {name: [] for name in servers}
    for number in range(-1, traffic.rounds):  # the first round warms up, and fills the cache
        for name, server in servers.items():
            requests = max(USERS, traffic.requests[candidates]) if number >= 0 else USERS
            found = _busy(server, "POST", "/v1/rank", path, max(2, requests // SLOWER) if name == "plain" else requests)
            if number >= 0:
                busy[name].append(found)
    rates = {name: statistics.median(sent.answered / sent.seconds for _, sent in found) for name, found in busy.items()}
    rate = 0.5 * min(rate for name, rate in rates.items() if name != "plain")
    opened = _open(servers, path, {name: min(rate, 0.5 * reached) for name, reached in rates.items()}, traffic)
    rows = []
    for name, found in busy.items():
        cpu = [seconds / sent.answered * 1e3 for seconds, sent in found]
        row: dict[str, Any] = {"level": "server", "events": events, "candidates": candidates, "alternative": name}
        row |= {
            "cpu_ms": round(statistics.median(cpu), 3),
            "least_ms": round(min(cpu), 3),
            "most_ms": round(max(cpu), 3),
        }
        row |= {"repeats": len(cpu), "busy_per_second": round(rates[name], 1)}
        rows.append(row | opened[name])
    return rows


def _open(
    servers: Mapping[str, Running], path: str, asked: Mapping[str, float], traffic: Traffic
) -> dict[str, dict[str, Any]]:
    """Latencies at these rates, servers in turns: medians of turns, and of the p50 over that of one by one in the same turn."""
    found: dict[str, list[Sent]] = {name: [] for name in servers}
    for turn in range(traffic.turns):
        for name, server in servers.items():
            if name == "plain" and turn:  # it answers a few requests a second: one long turn
                continue
            seconds = traffic.open_seconds * (traffic.turns if name == "plain" else 1)
            found[name].append(send(Plan(server.port, "/v1/rank", path, asked[name], seconds, 4 * CONNECTIONS)))
    rows: dict[str, dict[str, Any]] = {}
    for name, turns in found.items():
        answered = [one.ms for one in turns if one.ms]
        ms = {p: round(statistics.median(one[p] for one in answered), 3) for p in (answered[0] if answered else {})}
        statuses: Counter[str] = Counter()
        for one in turns:
            statuses.update(one.statuses)
        rows[name] = {"open_per_second": round(asked[name], 1), "latency_ms": ms, "statuses": dict(statuses)}
        pairs = zip(turns, found["serve, one by one"], strict=False)
        ratios = [one.ms["p50"] / other.ms["p50"] for one, other in pairs if one.ms and other.ms]
        if name != "plain" and ratios:
            rows[name]["p50_over_one_by_one"] = round(statistics.median(ratios), 3)
    return rows


def _busy(server: Running, method: str, path: str, file: str, requests: int, status: str = "200") -> tuple[float, Sent]:
    """(CPU seconds of the server, what came back) with all connections busy."""
    before = server.cpu_seconds()
    sent = send(Plan(server.port, path, file, 0.0, 120.0, CONNECTIONS, requests, method))
    if sent.statuses != {status: requests}:
        raise RuntimeError(f"{method} {path}: {sent.statuses} of {requests} requests")
    return server.cpu_seconds() - before, sent


def _http_alone(folder: Path, server: Running, traffic: Traffic) -> list[dict[str, Any]]:
    """Requests that score nothing: a probe, and a POST that is admitted, read and refused."""
    empty = folder / "empty.json"
    empty.write_text("[{}]", encoding="utf-8")
    requests = 8 * traffic.requests[1]
    kinds = {
        "GET /v2/health/live": ("GET", "/v2/health/live", "200"),
        "POST {} to /v1/rank": ("POST", "/v1/rank", "400"),
    }
    cpu: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(-1, traffic.rounds):
        for name, (method, path, status) in kinds.items():
            seconds, _ = _busy(server, method, path, str(empty), requests, status)
            if number >= 0:
                cpu[name].append(seconds / requests * 1e3)
    return [
        {
            "level": "http",
            "alternative": name,
            "cpu_ms": round(statistics.median(found), 4),
            "least_ms": round(min(found), 4),
            "most_ms": round(max(found), 4),
            "repeats": len(found),
        }
        for name, found in cpu.items()
    ]


def measure_overload(
    folder: Path, exported: Exported, events: int, candidates: int, traffic: Traffic
) -> list[dict[str, Any]]:
    """A server with a short queue and a short deadline, at half of the rate that it reaches and at twice that rate."""
    options = ("--queue", str(QUEUE), "--deadline-ms", str(DEADLINE_MS), "--cache-mb", "0")
    path = bodies(folder, exported, events, candidates)
    with running(folder, "overload", "ready", *serve(exported, *options)) as server:
        warm = send(Plan(server.port, "/v1/rank", path, 0.0, 60.0, CONNECTIONS, max(64, traffic.requests[candidates])))
        reached = warm.answered / warm.seconds
        rows, memory = [], server.resident_mb()
        for times in (0.5, 2.0):
            sent = send(Plan(server.port, "/v1/rank", path, times * reached, traffic.overload_seconds, 4 * QUEUE))
            row: dict[str, Any] = {
                "level": "overload",
                "events": events,
                "candidates": candidates,
                "times_reached": times,
            }
            row |= {"open_per_second": round(times * reached, 1), "deadline_ms": DEADLINE_MS, "queue": QUEUE}
            row |= {f"share_{status}": round(sent.share(status), 4) for status in (200, 429, 504)}
            row |= {"statuses": sent.statuses, "latency_ms": sent.ms, "refused_ms": sent.refused_ms}
            rows.append(row | {"grown_mb": round(server.resident_mb() - memory, 1)})
    return rows
