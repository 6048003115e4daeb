"""One server process: it listens, scores, follows versions, and loses no request at its end. In: settings, a socket; out: a status.

SIGTERM: `not ready` first, so that a load balancer looks elsewhere. After drain_seconds the listener closes, requests that were accepted
are answered, and the process ends with 0.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from interformer_rec.errors import InputError
from interformer_rec.serving.engine import log
from interformer_rec.serving.engine.meters import Meters
from interformer_rec.serving.engine.versions import Served, Versions
from interformer_rec.serving.published.pointer import Current
from interformer_rec.serving.server.app import Lifespan, application
from interformer_rec.serving.server.protocol import limited
from interformer_rec.serving.server.service import Service
from interformer_rec.serving.server.settings import Settings

# `named` and `load` of Versions
Opened = Callable[[str], tuple[Callable[[], Current], Callable[[Current, Served | None], Served]]]
KEEP_ALIVE = 30  # seconds that an idle connection stays open


def _nothing() -> None:
    return None


class Worker(uvicorn.Server):
    """uvicorn's server with an end in two steps."""

    def __init__(self, config: uvicorn.Config, service: Service, started: Callable[[], None]) -> None:
        super().__init__(config)
        self.service, self._started = service, started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        self._running = asyncio.get_running_loop()
        await super().startup(sockets=sockets)
        log.line("ready", version=self.service.versions.current.version, delta=self.service.versions.current.newest)
        self._started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the end, the second one shortens it."""
        service = self.service
        if service.draining or sig == signal.SIGINT:
            service.draining = self.should_exit = True
            return
        service.draining = True
        service.mark()
        log.line("draining", seconds=service.settings.drain_seconds, in_flight=service.gate.inside)
        self._running.call_soon_threadsafe(self._later)

    def _later(self) -> None:
        self._running.call_later(self.service.settings.drain_seconds, self._exit)

    def _exit(self) -> None:
        self.should_exit = True


def made(settings: Settings, opened: Opened, started: Callable[[], None]) -> Worker:
    """A server whose version is open and has scored its golden requests. Raises InputError."""
    meters = Meters()
    service = Service(settings, Versions(*opened(settings.path), meters), meters)
    config = uvicorn.Config(
        application(service, _following(service)),
        http=limited(settings.connections),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(settings.deadline_ms / 1e3) + 1),
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
    return Worker(config, service, started)


def serve(settings: Settings, listener: socket.socket, opened: Opened, started: Callable[[], None] = _nothing) -> int:
    """Answer requests on `listener` until a signal ends it; `started` is called when it does. Raises InputError at the start alone."""
    logger = logging.getLogger("uvicorn")
    logger.handlers[:], logger.propagate = [log.JsonHandler()], False
    worker = made(settings, opened, started)
    worker.run([listener])
    worker.service.draining = True
    worker.service.mark()
    return 0


def _following(service: Service) -> Lifespan:
    """Look at current.json every `watch` seconds, while the application lives."""

    async def follow() -> None:
        while True:
            await asyncio.sleep(service.settings.watch)
            try:
                if await asyncio.to_thread(service.versions.look, service.batcher.between):
                    service.batcher.between(service.cache.clear)
            except Exception as error:
                log.line("watch_failed", error=repr(error)[:500])

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(follow()) if service.settings.watch else None
        yield
        if task is not None:
            task.cancel()

    return life


def listen(settings: Settings) -> socket.socket:
    """The socket of all workers. Raises InputError where the address is taken or none of this machine's."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((settings.host, settings.port))
    except OSError as error:
        found.close()
        raise InputError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}. Choose another --host or --port"
        ) from None
    found.listen(settings.queue + 128)
    return found
