"""Several server processes on one socket. In: settings; out: an exit status.

A worker that dies is replaced, and the others answer meanwhile. A worker that cannot start ends the server: it would fail again. The tables
are mapped files, so the workers share their memory.
"""

import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import FrameType

from prometheus_client import multiprocess

from interformer_rec.errors import InputError
from interformer_rec.serving.engine import log
from interformer_rec.serving.server.settings import Settings
from interformer_rec.serving.server.worker import Opened, listen, serve

PAUSE = 1.0  # seconds between the deaths of a worker and its replacement
GRACE = 5.0  # seconds beyond drain and deadline before a worker is killed


class Workers:
    """The processes of one server."""

    def __init__(self, settings: Settings, listener: socket.socket, opened: Opened) -> None:
        self._settings, self._listener, self._opened = settings, listener, opened
        self._context = multiprocessing.get_context("spawn")
        self._running: list[tuple[SpawnProcess, Connection]] = []
        self._ending = threading.Event()

    def run(self) -> int:
        """Until a signal, or a worker that cannot start; its exit status, or 0."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        self._running = [self._start() for _ in range(self._settings.workers)]
        status = 0
        while not self._ending.is_set():
            for i, (process, began) in enumerate(self._running):
                if process.is_alive() or self._ending.is_set():
                    continue
                multiprocess.mark_process_dead(process.pid)  # type: ignore[no-untyped-call]
                if not _has_begun(began):
                    log.line("worker_failed", worker=process.pid, status=process.exitcode)
                    status = process.exitcode if process.exitcode in (1, 2) else 1
                    self._ending.set()
                    break
                log.line("worker_died", worker=process.pid, status=process.exitcode)
                time.sleep(PAUSE)
                self._running[i] = self._start()
            self._ending.wait(0.2)
        return max(status, self._finish())

    def _start(self) -> tuple[SpawnProcess, Connection]:
        mine, its = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_worker, args=(self._settings, self._listener, self._opened, its))
        process.start()
        its.close()
        return process, mine

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._ending.set()

    def _finish(self) -> int:
        """End all workers as SIGTERM ends one; 0 where all ended well."""
        for process, _ in self._running:
            if process.is_alive() and process.pid is not None:
                os.kill(process.pid, signal.SIGTERM)
        last = time.monotonic() + self._settings.drain_seconds + self._settings.deadline_ms / 1e3 + GRACE
        for process, _ in self._running:
            process.join(max(0.0, last - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        # a worker that SIGTERM ends itself had not begun to listen: it lost no request
        return int(any(process.exitcode not in (0, -signal.SIGTERM) for process, _ in self._running))


def _worker(settings: Settings, listener: socket.socket, opened: Opened, began: Connection) -> None:
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    try:
        sys.exit(serve(settings, listener, opened, lambda: began.send(True)))
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


def _has_begun(began: Connection) -> bool:
    """Whether a worker that has ended said before that it listens. Of a pipe whose other end is closed, poll alone says yes."""
    try:
        return began.poll() and began.recv()
    except EOFError:
        return False


def _end_with_parent() -> None:
    """A worker whose parent was killed would hold the address for ever, and nobody would replace it: it drains and ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def run(settings: Settings, opened: Opened) -> int:
    """Serve with as many processes as the settings say: one is this process itself."""
    listener = listen(settings)
    log.line("listening", host=settings.host, port=listener.getsockname()[1], workers=settings.workers)
    with listener:
        if settings.workers == 1:
            return serve(settings, listener, opened)
        shared = tempfile.mkdtemp(prefix="interformer-meters-")
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = shared  # read by the workers when they load prometheus_client
        try:
            return Workers(settings, listener, opened).run()
        finally:
            del os.environ["PROMETHEUS_MULTIPROC_DIR"]
            shutil.rmtree(shared, ignore_errors=True)
