"""`interformer serve` as processes: ready, ended by signals, and with workers that die."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time

import pytest

from interformer_rec.cli import main
from tests.serving.server.client import eventually, lines, wait_for


def test_sigterm_turns_not_ready_first_and_loses_no_request(launched, served, golden, tmp_path):
    process, client = launched(served, "--drain-seconds", "3", "--log-requests")
    body = {"rows": [golden[0]["row"]]}
    statuses: list[int] = []
    ended = threading.Event()

    def ask() -> None:
        """As a client behind a load balancer: it leaves when it is told to."""
        while not ended.is_set():
            status, _, headers = client("POST", "/v1/score", body)
            statuses.append(status)
            if headers.get("connection") == "close":
                return

    thread = threading.Thread(target=ask)
    assert client("GET", "/v2/health/ready")[0] == 200
    thread.start()
    eventually(lambda: len(statuses) > 3)
    process.send_signal(signal.SIGTERM)
    eventually(lambda: client("GET", "/v2/health/ready")[0] == 503)
    status, _, headers = client("POST", "/v1/score", body)  # still answered, and the client is told to leave
    assert (status, headers["connection"]) == (200, "close")
    assert process.wait(60) == 0
    ended.set()
    thread.join(60)
    assert set(statuses) == {200}
    events = [line["event"] for line in lines(tmp_path / "serve0.log")]
    assert events[:2] == ["listening", "ready"] and "draining" in events and "request" in events


@pytest.mark.slow
def test_workers_that_die_are_replaced_and_the_others_answer(launched, served, golden, tmp_path):
    process, client = launched(served, "--workers", "2", "--drain-seconds", "0.1")
    log = tmp_path / "serve0.log"
    wait_for(log, process, workers=2)
    body = {"rows": [golden[0]["row"]]}
    pids = [line["pid"] for line in lines(log) if line["event"] == "ready"]
    assert len(set(pids)) == 2
    os.kill(pids[0], signal.SIGKILL)
    served_while_one_is_dead = [client("POST", "/v1/score", body)[0] for _ in range(5)]
    assert served_while_one_is_dead == [200] * 5
    wait_for(log, process, workers=3)
    assert 'interformer_requests_total{route="/v1/score",status="200"}' in client.get("/metrics")
    process.terminate()
    assert process.wait(60) == 0
    assert [line["worker"] for line in lines(log) if line["event"] == "worker_died"] == [pids[0]]


def test_a_server_that_cannot_start_says_why(served, tmp_path, capsys):
    (tmp_path / "short").write_text("abc\n", encoding="utf-8")
    short = str(tmp_path / "short")
    for options, words in {
        (str(tmp_path / "nothing"),): "interformer export",
        (str(served), "--token-file", str(tmp_path / "none")): "--token-file",
        (str(served), "--token-file", short): "at least 16",
        (str(served), "--tls-cert", "a.pem"): "--tls-key",
        (str(served), "--tls-cert", "a.pem", "--tls-key", "b.pem"): "a.pem",
        (str(served), "--tls-cert", short, "--tls-key", short): "no certificate in PEM",
        (str(served), "--port", "70000"): "port",
        (str(served), "--host", "203.0.113.7"): "203.0.113.7",
        (str(served), "--queue", "0"): "queue",
    }.items():
        assert main(["serve", *options]) == 2, options
        assert words in capsys.readouterr().err, options


@pytest.mark.release
def test_slow_headers_end_a_connection(start, served):
    import socket

    server = start(served)
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(b"GET /v2 HTTP/1.1\r\n")
        slow.settimeout(30)
        began = time.monotonic()
        assert slow.recv(100) == b""
        assert 3 < time.monotonic() - began < 15


def test_tls(launched, served, tmp_path):
    import ssl
    import urllib.request

    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        str(key),
        "-out",
        str(cert),
        "-days",
        "2",
    ]
    try:
        subprocess.run(
            [*command, "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
            check=True,
            capture_output=True,
        )
    except FileNotFoundError:
        pytest.skip("openssl, which makes the certificate, is not installed")
    _, client = launched(served, "--tls-cert", str(cert), "--tls-key", str(key))
    context = ssl.create_default_context(cafile=str(cert))
    with urllib.request.urlopen(f"https://127.0.0.1:{client.port}/v2/health/ready", context=context) as answer:
        assert answer.status == 200
