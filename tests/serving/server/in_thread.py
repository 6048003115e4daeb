"""A server in a thread of the test's process: the same Worker as in a process, without signals."""

from __future__ import annotations

import threading

from interformer_rec.serving.server.settings import Settings
from interformer_rec.serving.server.worker import Opened, Worker, listen, made
from tests.serving.server.client import Client


class Server(Client):
    """Running when it is made."""

    def __init__(self, settings: Settings, opened: Opened) -> None:
        self._listener = listen(settings)
        super().__init__(self._listener.getsockname()[1])
        began = threading.Event()
        self.worker: Worker = made(settings, opened, began.set)
        self.service = self.worker.service
        self._thread = threading.Thread(target=self.worker.run, args=([self._listener],), daemon=True)
        self._thread.start()
        assert began.wait(60)

    def stop(self) -> None:
        """End it, as SIGINT does."""
        self.worker.should_exit = True
        self._thread.join(60)
        assert not self._thread.is_alive()
