"""HTTP connections with limits that uvicorn does not have. In: uvicorn's protocol; out: the same, refusing what no honest client sends.

A client that sends its headers too slowly, or too much of them, and connections above the limit are ended before a request object exists.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_SECONDS = 5.0
LAST_SECONDS = 0.2  # that a new connection has for its first request when the server ends
HEADER_BYTES = 32 * 1024  # of a request's line and headers
HEADERS = 100
_FULL = (
    b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: text/plain; charset=utf-8\r\nretry-after: 1\r\n"
    b"content-length: 21\r\nconnection: close\r\n\r\ntoo many connections\n"
)
_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: 18\r\nconnection: close\r\n\r\nheaders too large\n"
)


class LimitedProtocol(HttpToolsProtocol):
    """One connection; `limited` makes the class for a number of connections."""

    most_connections = 1_000

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse at once where there are too many, else expect a request's headers soon."""
        super().connection_made(transport)
        self._header_bytes = self._header_count = 0
        self._slow: asyncio.TimerHandle | None = None
        self._fresh = True
        if len(self.connections) > self.most_connections:
            transport.write(_FULL)
            transport.close()
            return
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """The timer ends with the connection."""
        self._headers_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes after a refusal are dropped."""
        if not self.transport.is_closing():
            super().data_received(data)

    def on_message_begin(self) -> None:
        """A further request on the connection: its headers have the same time."""
        self._header_bytes = self._header_count = 0
        self._expect_headers()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the request's line."""
        if self._fits(len(url), 0):
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        if self._fits(len(name) + len(value), 1):
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The request begins."""
        self._headers_came()
        if not self.transport.is_closing():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body; of a request that was refused there is none."""
        if self.cycle is not None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The body's end."""
        if self.cycle is not None:
            super().on_message_complete()

    def shutdown(self) -> None:
        """At the server's end. A connection that was accepted a moment ago gets the time to bring its request."""
        if self.cycle is None and not self.transport.is_closing() and self._fresh:
            self._fresh = False
            self.loop.call_later(LAST_SECONDS, self.shutdown)
        else:
            super().shutdown()

    def _fits(self, size: int, count: int) -> bool:
        self._header_bytes += size
        self._header_count += count
        if self._header_bytes > HEADER_BYTES or self._header_count > HEADERS:
            if not self.transport.is_closing():
                self.transport.write(_LARGE)
                self.transport.close()
            return False
        return True

    def _expect_headers(self) -> None:
        if self._slow is None:
            self._slow = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _headers_came(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None


def limited(connections: int) -> type[LimitedProtocol]:
    """The protocol for at most `connections` at a time."""
    members: dict[str, Any] = {"most_connections": connections}
    return type("LimitedProtocol", (LimitedProtocol,), members)
