"""A plain HTTP client, and the port of a server from its log."""

from __future__ import annotations

import http.client
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Client:
    """Requests to a server on loopback, a connection each."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __call__(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """(status, JSON or text, headers)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, content, headers or {})
            answer = connection.getresponse()
            text = answer.read()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, json.loads(text) if "json" in found.get("content-type", "") else text.decode(), found
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """The content, of status 200."""
        status, content, _ = self("GET", path)
        assert status == 200, (status, content)
        return content

    def post(self, path: str, body: Any) -> Any:
        """The content, of status 200."""
        status, content, _ = self("POST", path, body)
        assert status == 200, (status, content)
        return content

    def refused(self, path: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        """(status, the error) of a request that gets no scores."""
        status, content, _ = self("POST", path, body, headers)
        assert status >= 400, content
        return status, content["error"]


def lines(log: Path) -> list[dict[str, Any]]:
    """The events of a server's log."""
    whole = log.read_text(encoding="utf-8").rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]


def wait_for(log: Path, process: subprocess.Popen[bytes], workers: int = 1) -> int:
    """The port, once so many workers are ready."""
    last = time.monotonic() + 120
    while time.monotonic() < last:
        found = lines(log)
        if sum(line["event"] == "ready" for line in found) >= workers:
            return int(next(line["port"] for line in found if line["event"] == "listening"))
        assert process.poll() is None, log.read_text(encoding="utf-8")
        time.sleep(0.05)
    raise AssertionError(log.read_text(encoding="utf-8"))


def eventually(true: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until it is; a failing test waits for long, a passing one hardly."""
    last = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < last, "it never came true"
        time.sleep(0.02)
