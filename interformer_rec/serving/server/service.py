"""A request's way through the server: read, encoded, queued, scored, answered. In: HTTP requests; out: scores as JSON."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from interformer_rec import __version__
from interformer_rec.serving.encode.refusal import Refusal
from interformer_rec.serving.engine import log
from interformer_rec.serving.engine.batcher import Batcher, ClosedError, LateError, Scored
from interformer_rec.serving.engine.cache import StateCache
from interformer_rec.serving.engine.engine import Ask, Engine, Scores, UnknownKeyError
from interformer_rec.serving.engine.meters import Meters
from interformer_rec.serving.engine.versions import Served, Versions
from interformer_rec.serving.request import Inputs, Rows
from interformer_rec.serving.server.admission import Deadline, Gate
from interformer_rec.serving.server.answers import Refused, answer
from interformer_rec.serving.server.settings import Settings

KEY_CHARACTERS = 256  # of a client's key
Encoded = TypeVar("Encoded", Inputs, Rows)
Handler = Callable[[Request, Deadline], Awaitable[Response]]


class Service:
    """One worker: its versions, its scoring thread, its cache and its meters."""

    release = __version__

    def __init__(self, settings: Settings, versions: Versions, meters: Meters) -> None:
        self.settings, self.versions, self.meters = settings, versions, meters
        self.cache = StateCache(int(settings.cache_mb * 1024**2), settings.cache_half)
        self._engine = Engine(self.cache)
        self.batcher: Batcher[Ask, Scores] = Batcher(self._engine, settings.batch, meters.batch)
        self.gate = Gate(settings, meters.in_flight.set)
        self.draining = False
        self._seen = (0, 0)  # hits and misses that the meters have
        self.mark()

    @property
    def ready(self) -> bool:
        """Whether requests should come here."""
        return not self.draining and self.batcher.alive

    def mark(self) -> None:
        """Bring the gauges up to date."""
        self.meters.ready.set(int(self.ready))
        self.meters.waiting.set(self.batcher.depth)
        self.meters.cache_bytes.set(self.cache.bytes)
        hits, misses = self.cache.hits, self.cache.misses
        self.meters.cache_hits.inc(hits - self._seen[0])
        self.meters.cache_misses.inc(misses - self._seen[1])
        self._seen = hits, misses

    def status(self) -> dict[str, Any]:
        """For the page: versions, latency and cache of this worker."""
        versions, previous = self.versions, self.versions.previous
        return {
            "model": versions.current.name,
            "version": versions.current.version,
            "delta": versions.current.newest,
            "deltas": versions.current.deltas,
            "loaded": versions.current.loaded,
            "previous": None if previous is None else previous.state,
            "refused": versions.refused,
            "ready": self.ready,
            "in_flight": self.gate.inside,
            "waiting": self.batcher.depth,
            "ms": self.meters.percentiles(),
            "cache": {
                "states": len(self.cache),
                "bytes": self.cache.bytes,
                "limit": self.cache.limit,
                "hits": self.cache.hits,
                "misses": self.cache.misses,
            },
            "split": versions.current.scorer.split,
        }

    def handled(self, handler: Handler, route: str) -> Callable[[Request], Awaitable[Response]]:
        """`handler` between admission and the meters; what it refuses is answered with a reason, and never with a traceback."""

        async def handle(request: Request) -> Response:
            began, error = time.monotonic(), None
            try:
                async with self.gate.enter(request) as deadline:
                    response = await handler(request, deadline)
            except Refused as refused:
                response, error = refused.response(), refused
            except Exception as failure:
                error = Refused(500, "internal", "the server failed at this request; its log has the reason")
                response = error.response()
                log.line("failure", error=repr(failure)[:500], path=route, trace=request.headers.get("traceparent"))
            self._finish(request, route, response, began, error)
            return response

        return handle

    def _finish(self, request: Request, route: str, response: Response, began: float, error: Refused | None) -> None:
        trace = request.headers.get("traceparent")
        if trace is not None and trace.isascii() and trace.isprintable():
            response.headers["traceparent"] = trace
        if self.draining:
            response.headers["connection"] = "close"
        seconds = time.monotonic() - began
        self.meters.requests.labels(route, str(response.status_code)).inc()
        self.meters.stage("whole", seconds)
        if error is not None:
            self.meters.errors.labels(error.kind).inc()
        if self.settings.log_requests or (error is not None and error.status >= 500):
            kind = None if error is None else error.kind
            ms = round(seconds * 1e3, 3)
            log.line("request", path=route, status=response.status_code, ms=ms, error=kind, trace=trace)

    async def rank(self, request: Request, deadline: Deadline) -> Response:
        """POST /v1/rank: one user, N candidates. A key that the client gave before stands for the user's inputs."""
        body = await self.body(request, deadline, ("candidates",), ("user", "user_key", "deadline_ms"))
        key, candidates, served = body.get("user_key"), body["candidates"], self.versions.current
        if key is not None and (type(key) is not str or not 0 < len(key) <= KEY_CHARACTERS):
            raise Refused(
                400, "bad_request", f"user_key: must be text of 1 to {KEY_CHARACTERS} characters", field="user_key"
            )
        if key is None and "user" not in body:
            message = "the request lacks 'user': give the user's inputs, or the user_key of an earlier request"
            raise Refused(400, "bad_request", message, field="user")
        if "user" in body:
            inputs = self.encoded(lambda: served.encoder.rank(body["user"], candidates), candidates, "candidates")
            ask = Ask(served.state, served.scorer, inputs.users, inputs.candidates, inputs.owners, key)
        else:
            rows = self.encoded(lambda: served.encoder.candidates(candidates), candidates, "candidates")
            ask = Ask(served.state, served.scorer, None, rows, np.zeros(rows.count, np.int64), key)
        return await self._scored(served, ask, deadline, order=True)

    async def score(self, request: Request, deadline: Deadline) -> Response:
        """POST /v1/score: independent rows."""
        body = await self.body(request, deadline, ("rows",), ("deadline_ms",))
        served = self.versions.current
        inputs = self.encoded(lambda: served.encoder.score(body["rows"]), body["rows"], "rows")
        return await self._scored(served, ask_of(served, inputs), deadline, order=False)

    async def values(self, ask: Ask, deadline: Deadline) -> Scored[Scores]:
        """Scores of encoded inputs. Raises Refused where they come too late."""
        try:
            future = self.batcher.submit(ask, ask.size, deadline.at)
        except ClosedError:
            raise Refused(503, "ending", "the server is ending: ask another one", {"connection": "close"}) from None
        try:
            found = await deadline.wait(asyncio.wrap_future(future), 504, "late", "the scores were not ready")
        except LateError:
            message = f"the scores were not ready within {deadline.milliseconds:g} ms"
            raise Refused(504, "late", message) from None
        except UnknownKeyError:
            message = "no state of this user_key is kept here: send the request again, with the user's inputs"
            raise Refused(409, "unknown_key", message, field="user_key") from None
        self.meters.candidates.inc(ask.size)
        self.meters.stage("wait", found.waited)
        self.meters.stage("score", found.took)
        return found

    async def body(
        self, request: Request, deadline: Deadline, needed: tuple[str, ...], more: tuple[str, ...]
    ) -> dict[str, Any]:
        """The request's object, with these keys and no others. Raises Refused."""
        began = time.monotonic()
        body = await self.gate.body(request, deadline)
        self.meters.stage("read", time.monotonic() - began)
        lacking = [name for name in needed if name not in body]
        unknown = [name for name in body if name not in needed and name not in more]
        if lacking or unknown:
            what = f"lacks {lacking[0]!r}" if lacking else f"has the key {unknown[0][:80]!r}, which means nothing here"
            message = f"the request {what}: its keys are {', '.join(needed)}, and if you like {', '.join(more)}"
            raise Refused(400, "bad_request", message, field=(lacking or unknown)[0][:80])
        deadline.shorten(body.get("deadline_ms"))
        return body

    def encoded(self, encode: Callable[[], Encoded], rows: Any, what: str) -> Encoded:
        """Inputs of the request. Raises Refused: 413 above --max-candidates, before any is looked at; 400 with the place of a bad value."""
        began = time.monotonic()
        self.check_count(rows, what)
        try:
            inputs = encode()
        except Refusal as refusal:
            raise Refused(
                400,
                "bad_value",
                str(refusal),
                part=refusal.part,
                field=refusal.field,
                row=refusal.row,
                element=refusal.element,
                cure=refusal.cure,
            ) from None
        self.meters.stage("encode", time.monotonic() - began)
        return inputs

    def check_count(self, rows: Any, what: str) -> None:
        """Raises Refused where there are more candidates or rows than --max-candidates."""
        sizes = [len(rows)] if isinstance(rows, list) else []
        if isinstance(rows, dict):
            sizes = [len(column) for column in rows.values() if isinstance(column, list)]
        self.check_size(max(sizes, default=0), what)

    def check_size(self, size: int, what: str) -> None:
        """The same, of a number."""
        most = self.settings.max_candidates
        if size > most:
            message = f"{size} {what} in one request, at most {most} (--max-candidates): send several requests"
            raise Refused(413, "many_candidates", message)

    async def _scored(self, served: Served, ask: Ask, deadline: Deadline, order: bool) -> Response:
        encoded = time.monotonic()
        found = await self.values(ask, deadline)
        began = time.monotonic()
        scores = found.value.values
        content: dict[str, Any] = {
            "model": served.name,
            "version": served.version,
            "delta": served.newest,
            "scores": {one.name: np.ascontiguousarray(scores[:, i]) for i, one in enumerate(served.signature.outputs)},
        }
        if order:
            content["order"] = np.argsort(-scores[:, 0], kind="stable")
            content["user_cached"] = found.value.cached
        content["ms"] = milliseconds(
            before=encoded - deadline.began,
            wait=found.waited,
            score=found.took,
            whole=time.monotonic() - deadline.began,
        )
        content["batched"] = found.together
        response = answer(content)
        self.meters.stage("write", time.monotonic() - began)
        return response


def ask_of(served: Served, inputs: Inputs) -> Ask:
    """The work of independent rows, or of a request whose user has no key."""
    return Ask(served.state, served.scorer, inputs.users, inputs.candidates, inputs.owners)


def milliseconds(**seconds: float) -> Mapping[str, float]:
    """Of a request's stages."""
    return {name: round(value * 1e3, 3) for name, value in seconds.items()}
