"""Servers under load and beside clients that misbehave: what is accepted is answered, the rest is refused at once, nothing grows."""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import signal
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from benchmarks.serving.load import Plan, Sent, send
from interformer_rec.serving.arguments import ExportOptions
from interformer_rec.serving.export import export
from tests.serving.server.client import Client, eventually, lines, wait_for

pytestmark = pytest.mark.release

DEADLINE_MS = 3_000
QUEUE = 8
OVERLOAD_SECONDS = 30
LATE_SHARE = 0.01  # of all requests that are admitted and then not scored in time
LATE_MS = 2_000  # that a busy machine may add to what a client sees
SWAPS = 20
BODIES = 10_000
SEED = 5


def rank_body(golden: list[dict[str, Any]], client: Client, candidates: int) -> dict[str, Any]:
    """The example request of the OpenAPI page with many candidates."""
    paths = client.get("/openapi.json")["paths"]
    example = paths["/v1/rank"]["post"]["requestBody"]["content"]["application/json"]["example"]
    return {**example, "candidates": [example["candidates"][i % len(example["candidates"])] for i in range(candidates)]}


def resident(pid: int) -> int:
    """Bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def most_resident(pid: int) -> int:
    """Bytes, at any time of the process until now."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) << 10


def serves(client: Client, version: str) -> bool:
    status = client.get("/v1/status")
    assert status["refused"] == {}
    return status["version"] == version


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_twice_the_capacity_is_refused_at_once_and_what_is_accepted_is_in_time(launched, served, golden, tmp_path):
    options = ("--queue", str(QUEUE), "--deadline-ms", str(DEADLINE_MS), "--cache-mb", "0")
    process, client = launched(served, *options)
    file = tmp_path / "bodies.json"
    file.write_text(json.dumps([rank_body(golden, client, 900)]), encoding="utf-8")

    def sent(rate: float, seconds: float, connections: int, most: int = 100_000) -> Sent:
        return send(Plan(client.port, "/v1/rank", str(file), rate, seconds, connections, most))

    sent(0, 30, 4, most=40)
    warm = sent(0, 30, 4, most=100)
    assert warm.statuses == {"200": 100}
    capacity, memory = 100 / warm.seconds, resident(process.pid)
    found = sent(2 * capacity, OVERLOAD_SECONDS, 8 * QUEUE)
    assert set(found.statuses) <= {"200", "429", "504"}, found
    assert found.statuses["429"] > 0 and found.answered > 0, found
    assert found.share(504) <= LATE_SHARE, found
    assert found.ms["p99"] <= DEADLINE_MS + LATE_MS, found
    assert found.refused_ms["p50"] <= DEADLINE_MS / 10, found
    assert most_resident(process.pid) - memory < 100 << 20
    calm = sent(0.3 * capacity, 5, 4)
    assert set(calm.statuses) == {"200"}, calm


def test_twenty_swaps_under_load_fail_no_request(launched, split_run, served, golden, tmp_path):
    place = Path(shutil.copytree(served, tmp_path / "served"))
    current = place / "current.json"
    versions = {json.loads(current.read_text(encoding="utf-8"))["version"]: current.read_bytes()}
    for tables in ("fp16", "fp32"):
        made = export(str(split_run), str(place), ExportOptions(tables=tables, runtime="eager"))["version"]
        versions[made] = current.read_bytes()
    _, client = launched(place, "--watch", "0.05")
    body = {"rows": [one["row"] for one in golden[:4]]}
    with Load(lambda: client("POST", "/v1/score", body)) as load:
        names = list(versions)
        for number in range(SWAPS):
            wanted = names[number % len(names)]
            following = current.with_suffix(".next")
            following.write_bytes(versions[wanted])
            following.replace(current)
            eventually(lambda wanted=wanted: serves(client, wanted))
    assert load.failures == []
    assert {content["version"] for content in load.contents} == set(names)
    score = golden[0]["scores"]["label"]
    assert all(abs(content["scores"]["label"][0] - score) < 1e-3 for content in load.contents)


def test_a_worker_is_killed_under_load_and_the_others_serve(launched, served, golden, tmp_path):
    process, client = launched(served, "--workers", "3", "--drain-seconds", "0.1")
    log = tmp_path / "serve0.log"
    wait_for(log, process, workers=3)
    pids = [line["pid"] for line in lines(log) if line["event"] == "ready"]
    body = {"rows": [golden[0]["row"]]}
    with Load(lambda: client("POST", "/v1/score", body), threads=4) as load:
        eventually(lambda: len(load.contents) > 20)
        for pid in pids[:2]:
            os.kill(pid, signal.SIGKILL)
        after = len(load.contents)
        eventually(lambda: len(load.contents) > after + 40)
        wait_for(log, process, workers=5)
    # the requests that the two were answering are lost with them, and no other
    assert len(load.failures) <= 2 * load.threads
    broken = (ConnectionError, http.client.HTTPException)
    assert all(isinstance(failure, broken) for failure in load.failures), load.failures
    assert client("POST", "/v1/score", body)[0] == 200
    left = [line["pid"] for line in lines(log) if line["event"] == "ready"][2:]
    process.kill()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left))  # nobody would replace them


def test_malformed_bodies_are_refused_and_nothing_grows(launched, served, golden):
    process, client = launched(served)
    generator = random.Random(SEED)
    bodies = [json.dumps(rank_body(golden, client, 2)).encode(), json.dumps({"rows": [golden[0]["row"]]}).encode()]
    statuses: Counter[int] = Counter()
    files = memory = 0
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
    for number in range(BODIES):
        path, body = ("/v1/rank", bodies[0]) if number % 2 else ("/v1/score", bodies[1])
        connection.request("POST", path, damaged(body, generator))
        answer = connection.getresponse()
        content = answer.read()
        statuses[answer.status] += 1
        assert answer.status < 500, (number, content)
        assert answer.status == 200 or json.loads(content)["error"]["message"]
        if number == BODIES // 5:
            files, memory = open_files(process.pid), resident(process.pid)
    assert statuses[400] > BODIES // 2
    assert open_files(process.pid) <= files + 1
    assert resident(process.pid) - memory < 32 << 20
    assert client("POST", "/v1/rank", bodies[0])[0] == 200


def test_slow_and_half_open_clients_cost_others_nothing(launched, served, golden):
    process, client = launched(served, "--deadline-ms", "1500")
    body = {"rows": [golden[0]["row"]]}
    head = b"POST /v1/score HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n"
    assert client("POST", "/v1/score", body)[0] == 200
    files, memory = open_files(process.pid), resident(process.pid)
    silent = [socket.create_connection(("127.0.0.1", client.port)) for _ in range(60)]
    for number, one in enumerate(silent):
        one.sendall([b"", head, head + b"\r\n" + b"{" * 1_000][number % 3])
    with Load(lambda: client("POST", "/v1/score", {**body, "deadline_ms": 60_000})) as load:
        for number, one in enumerate(silent[:30]):
            if number % 2:  # a reset, as of a client whose machine has died
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.close()
            else:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_WR)
        eventually(lambda: len(load.contents) > 50)
        eventually(lambda: client.get("/v1/status")["in_flight"] <= load.threads)
        eventually(lambda: open_files(process.pid) <= files + load.threads + 1)  # the server has ended all of them
    assert load.failures == []
    for one in silent:
        one.close()
    assert resident(process.pid) - memory < 32 << 20


def damaged(body: bytes, generator: random.Random) -> bytes:
    """A request with one fault: of its bytes, or of the values in it."""
    kind = generator.randrange(5)
    if kind == 0:
        return body[: generator.randrange(len(body))]
    if kind == 1:
        changed = bytearray(body)
        for _ in range(generator.randrange(1, 8)):
            changed[generator.randrange(len(changed))] = generator.randrange(256)
        return bytes(changed)
    if kind == 2:
        return generator.randbytes(generator.randrange(200))
    if kind == 3:
        return b'{"rows":' + b"[" * generator.randrange(1, 3_000)
    tree = json.loads(body)
    at: Any = tree
    while True:
        key = generator.choice(list(at)) if isinstance(at, dict) else generator.randrange(len(at))
        if not isinstance(at[key], (dict, list)) or not at[key] or generator.random() < 0.3:
            wrong = [None, True, -1, 1.5, 1e300, 10**30, "", "x" * 2_000, [], {}, [[]], [None], {"a": 1}, "\x00", "é"]
            at[key] = generator.choice(wrong)
            return json.dumps(tree).encode()
        at = at[key]


class Load:
    """Threads that ask until the block ends; what is no 200, or fails on the way, is kept."""

    def __init__(self, ask: Callable[[], tuple[int, Any, dict[str, str]]], threads: int = 2) -> None:
        self.threads = threads
        self.contents: list[Any] = []
        self.failures: list[Any] = []
        self._ask, self._ended = ask, threading.Event()
        self._running = [threading.Thread(target=self._run) for _ in range(threads)]

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                status, content, _ = self._ask()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(error)
                continue
            (self.contents if status == 200 else self.failures).append(content)

    def __enter__(self) -> Load:
        for thread in self._running:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        for thread in self._running:
            thread.join(60)
