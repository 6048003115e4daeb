"""Who is let in. In: a request and the server's limits; out: its body as parsed JSON before its deadline, or a refusal.

Requests above `queue` are refused before a byte of their body is read, so that overload costs the server next to nothing.
"""

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from interformer_rec.serving.server.answers import RETRY, Refused
from interformer_rec.serving.server.json_body import parsed
from interformer_rec.serving.server.settings import Settings

T = TypeVar("T")


class Deadline:
    """The time by which a request has to be answered. `at` is a time of time.monotonic()."""

    def __init__(self, milliseconds: float) -> None:
        self.began = time.monotonic()
        self.milliseconds = milliseconds
        self.at = self.began + milliseconds / 1e3

    def shorten(self, asked: Any) -> None:
        """What the request asks for, where that is less. Raises Refused."""
        if asked is None:
            return
        if isinstance(asked, bool) or not isinstance(asked, (int, float)) or not asked > 0:
            raise Refused(
                400, "bad_request", "deadline_ms: must be a number of milliseconds above 0", field="deadline_ms"
            )
        self.milliseconds = min(self.milliseconds, float(asked))
        self.at = self.began + self.milliseconds / 1e3

    async def wait(self, awaitable: Awaitable[T], status: int, kind: str, what: str) -> T:
        """The result, or Refused with this status where it comes too late; what is awaited is cancelled then."""
        try:
            return await asyncio.wait_for(awaitable, max(0.0, self.at - time.monotonic()))
        except asyncio.TimeoutError:
            raise Refused(status, kind, f"{what} within {self.milliseconds:g} ms") from None


class Gate:
    """Counts the requests that are in the server, and knows whether more may come."""

    def __init__(self, settings: Settings, changed: Callable[[int], None]) -> None:
        self._settings, self._token, self._changed = settings, settings.token(), changed
        self._largest = int(settings.max_body_mb * 1024**2)
        self.inside = 0

    def check_token(self, request: Request) -> None:
        """Raises Refused unless the request brings the server's token, where it has one."""
        if self._token is None:
            return
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), self._token):
            message = "this server wants its token: send the header `Authorization: Bearer TOKEN`"
            raise Refused(401, "no_token", message, {"www-authenticate": "Bearer"})

    @asynccontextmanager
    async def enter(self, request: Request) -> AsyncIterator[Deadline]:
        """One request's stay."""
        self.check_token(request)
        if self.inside >= self._settings.queue:
            message = f"{self.inside} requests are in work (--queue): try again later, or ask another server"
            raise Refused(429, "full", message, RETRY)
        self.inside += 1
        self._changed(self.inside)
        try:
            yield Deadline(self._settings.deadline_ms)
        finally:
            self.inside -= 1
            self._changed(self.inside)

    async def body(self, request: Request, deadline: Deadline) -> dict[str, Any]:
        """The JSON object of a request. Raises Refused."""
        content = await deadline.wait(self._read(request), 408, "slow_body", "the request's body did not come")
        return parsed(content)

    async def _read(self, request: Request) -> bytes:
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            message = f"the body has the content-encoding {encoding[:40]!r}, which is not read here: send plain JSON"
            raise Refused(415, "encoded_body", message, {"connection": "close"})
        length = request.headers.get("content-length", "")
        if length.isdecimal() and len(length) < 20 and int(length) > self._largest:
            raise self._large()
        content = bytearray()
        try:
            async for piece in request.stream():
                content += piece
                if len(content) > self._largest:
                    raise self._large()
        except ClientDisconnect:
            raise Refused(400, "disconnected", "the client left before its request had come") from None
        return bytes(content)

    def _large(self) -> Refused:
        message = f"the body is larger than {self._settings.max_body_mb:g} MiB (--max-body-mb): send fewer candidates a request"
        return Refused(413, "large_body", message, {"connection": "close"})
