"""The load generator: every request that is due is sent or counted, and latency counts from its due time."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.serving.load import Plan, send

SLOW = 0.2  # seconds of an answer of /slow


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/slow":
            time.sleep(SLOW)
        content = json.dumps(body).encode()
        self.send_response(429 if body == {"refuse": True} else 200)
        self.send_header("content-length", str(len(content)))
        if body == {"last": True}:
            self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def bodies(tmp_path, *found: dict) -> str:
    path = tmp_path / "bodies.json"
    path.write_text(json.dumps(found), encoding="utf-8")
    return str(path)


def test_all_at_once_over_few_connections(port, tmp_path):
    file = bodies(tmp_path, {"a": 1}, {"refuse": True}, {"last": True}, {})
    sent = send(Plan(port, "/", file, 0.0, 30.0, 3, most=40))
    assert sent.statuses == {"200": 30, "429": 10}
    assert sent.answered == 30 and sent.share(429) == 0.25
    assert set(sent.ms) == set(sent.refused_ms) == {"p50", "p90", "p99", "most"}


def test_a_request_that_waits_for_its_connection_is_late_by_its_wait(port, tmp_path):
    """One connection that answers five requests a second, and twenty a second that are due: no due time is skipped."""
    sent = send(Plan(port, "/slow", bodies(tmp_path, {}), 20.0, 1.0, 1))
    count = sent.statuses["200"]
    assert 8 < count < 40 and set(sent.statuses) == {"200"}
    assert sent.ms["most"] >= (count * SLOW - 1.0) * 1e3
    assert sent.ms["p50"] > 2 * SLOW * 1e3


def test_a_server_that_is_not_there_is_counted(tmp_path):
    assert send(Plan(1, "/", bodies(tmp_path, {}), 0.0, 1.0, 2, most=5)).statuses == {"none": 5}


def test_the_times_are_those_of_the_seed(port, tmp_path):
    file = bodies(tmp_path, {})
    counts = [sum(send(Plan(port, "/", file, 40.0, 0.5, 4, seed=seed)).statuses.values()) for seed in (1, 1)]
    assert counts[0] == counts[1] > 5
