"""Several workers: what their server's end says of them."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from interformer_rec.errors import InputError
from interformer_rec.serving.server.settings import Settings
from interformer_rec.serving.server.worker import listen
from interformer_rec.serving.server.workers import Workers, run


@pytest.fixture
def signals():
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def never_opened(path):
    threading.Event().wait()


def not_there(path):
    raise InputError(f"there is no version in {path}")


def test_a_worker_that_cannot_start_ends_the_server(signals, capfd):
    """It would fail again: nothing is tried for ever."""
    settings = Settings(path="nowhere", port=0, workers=2, drain_seconds=0.0, deadline_ms=100.0)
    assert run(settings, not_there) == 2
    printed = capfd.readouterr().err
    assert "error: there is no version in nowhere" in printed
    assert '"event":"worker_failed"' in printed and '"event":"worker_died"' not in printed


def test_sigterm_before_a_worker_is_ready_is_a_good_end(signals):
    """Also of a server whose worker died a moment ago and whose replacement still opens the version."""
    settings = Settings(path="served", port=0, drain_seconds=0.0, deadline_ms=100.0)
    with listen(settings) as listener:
        workers = Workers(settings, listener, never_opened)
        threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
        assert workers.run() == 0
