"""The routes of a server. In: a Service; out: the ASGI application."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from interformer_rec.serving.engine.versions import Served
from interformer_rec.serving.server import explain, open_inference
from interformer_rec.serving.server.admission import Deadline
from interformer_rec.serving.server.answers import Refused, answer
from interformer_rec.serving.server.openapi import description
from interformer_rec.serving.server.page import page
from interformer_rec.serving.server.service import Service, ask_of

Lifespan = Callable[[Starlette], Any]


class Routes:
    """What each address answers."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def all(self) -> list[Route]:
        """Of the application."""
        counted = self._service.handled
        return [
            Route("/", self.home),
            Route("/v1/rank", counted(self._service.rank, "/v1/rank"), methods=["POST"]),
            Route("/v1/score", counted(self._service.score, "/v1/score"), methods=["POST"]),
            Route("/v1/explain", counted(self.explain, "/v1/explain"), methods=["POST"]),
            Route("/v1/status", self.status),
            Route("/metrics", self.metrics),
            Route("/openapi.json", self.openapi),
            Route("/v2", self.server),
            Route("/v2/health/live", self.live),
            Route("/v2/health/ready", self.ready),
            Route("/v2/models/{name}", self.model),
            Route("/v2/models/{name}/versions/{version}", self.model),
            Route("/v2/models/{name}/ready", self.model_ready),
            Route("/v2/models/{name}/versions/{version}/ready", self.model_ready),
            Route("/v2/models/{name}/infer", counted(self.infer, "/v2/infer"), methods=["POST"]),
            Route("/v2/models/{name}/versions/{version}/infer", counted(self.infer, "/v2/infer"), methods=["POST"]),
        ]

    async def home(self, request: Request) -> Response:
        """The page for people."""
        headers = {
            "content-security-policy": "default-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'none'",
            "x-content-type-options": "nosniff",
        }
        return HTMLResponse(
            page(self._service.versions.current, self._service.settings.token_file is None), headers=headers
        )

    async def status(self, request: Request) -> Response:
        """GET /v1/status: versions, latency and cache of the worker that answers."""
        self._service.gate.check_token(request)
        return answer(self._service.status())

    async def metrics(self, request: Request) -> Response:
        """GET /metrics for Prometheus."""
        self._service.mark()
        return Response(self._service.meters.text(), media_type="text/plain; version=0.0.4")

    async def openapi(self, request: Request) -> Response:
        """GET /openapi.json: its examples are rows of the run's data."""
        self._service.gate.check_token(request)
        return answer(description(self._service.versions.current, self._service.settings))

    async def server(self, request: Request) -> Response:
        """GET /v2: what this server is."""
        version = self._service.release
        return answer({"name": open_inference.PLATFORM, "version": version, "extensions": []})

    async def live(self, request: Request) -> Response:
        """GET /v2/health/live: the process answers, and its scoring thread runs."""
        live = self._service.batcher.alive
        return answer({"live": live}, 200 if live else 503)

    async def ready(self, request: Request) -> Response:
        """GET /v2/health/ready: golden requests were scored as exported, and the server is not ending."""
        return answer({"ready": self._service.ready}, 200 if self._service.ready else 503)

    async def model(self, request: Request) -> Response:
        """GET /v2/models/NAME."""
        served = self._named(request)
        previous = self._service.versions.previous
        versions = list(dict.fromkeys([served.version] + ([previous.version] if previous is not None else [])))
        names = [one.name for one in served.signature.outputs]
        return answer(open_inference.metadata(served.name, versions, served.signature.types, names))

    async def model_ready(self, request: Request) -> Response:
        """GET /v2/models/NAME/ready."""
        served = self._named(request)
        ready = self._service.ready
        return answer({"name": served.name, "ready": ready}, 200 if ready else 503)

    async def infer(self, request: Request, deadline: Deadline) -> Response:
        """POST /v2/models/NAME/infer: independent rows as tensors."""
        served = self._named(request)
        service = self._service
        body = await service.gate.body(request, deadline)
        open_inference.check_id(body)
        inputs = {one.name: one for one in served.signature.inputs}
        ignores, check = served.signature.unknown == "ignored", partial(service.check_size, what="rows")
        columns = open_inference.columns(body, inputs, served.types, check, ignores)
        encoded = service.encoded(lambda: served.encoder.score(columns), columns, "rows")
        nothing = np.zeros((0, len(served.signature.outputs)), np.float32)
        open_inference.outputs(body, served, nothing)  # refuses outputs that the model lacks, before it scores
        found = await service.values(ask_of(served, encoded), deadline)
        return answer(open_inference.outputs(body, served, found.value.values))

    async def explain(self, request: Request, deadline: Deadline) -> Response:
        """POST /v1/explain: which inputs moved the scores of a user's candidates (each left out in turn)."""
        service, served = self._service, self._service.versions.current
        body = await service.body(request, deadline, ("user", "candidates"), ("deadline_ms",))
        candidates = body["candidates"]
        if not isinstance(candidates, list) or len(candidates) > explain.MOST_CANDIDATES:
            message = f"candidates: must be a list of 1 to {explain.MOST_CANDIDATES} objects here"
            raise Refused(400, "bad_request", message, field="candidates")
        base = service.encoded(lambda: served.encoder.rank(body["user"], candidates), candidates, "candidates")
        rows = [explain.whole_row(body["user"], one, served.signature.inputs) for one in candidates]
        found = [explain.variants(served.signature, served.histories, row) for row in rows]
        scores = (await service.values(ask_of(served, base), deadline)).value.values[:, 0]
        names = [left for left, _ in found[0]]
        without = np.empty((len(rows), len(names)), np.float32)
        for i, tried in enumerate(found):
            inputs = service.encoded(partial(served.encoder.score, [row for _, row in tried]), [], "rows")
            without[i] = (await service.values(ask_of(served, inputs), deadline)).value.values[:, 0]
        task = served.signature.outputs[0].name
        content = {
            "task": task,
            "version": served.version,
            "delta": served.newest,
            "scores": scores,
            "moved": explain.moved(names, scores, without),
        }
        return answer(content)

    def _named(self, request: Request) -> Served:
        """The version that a path names. Raises Refused (404)."""
        versions, name, wanted = self._service.versions, request.path_params["name"], request.path_params.get("version")
        for served in (versions.current, versions.previous):
            if served is not None and served.name == name and wanted in (None, served.version):
                return served
        current = versions.current
        message = (
            f"there is no such model or version here: the model is {current.name!r}, its version {current.version!r}"
        )
        raise Refused(404, "unknown_model", message)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return error.response()


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = {404: "there is nothing at this address: see / and /openapi.json", 405: "this address wants another method"}
    refused = Refused(
        error.status_code, "unknown_address", words.get(error.status_code, str(error.detail)), error.headers
    )
    return refused.response()


def application(service: Service, lifespan: Lifespan | None = None) -> Starlette:
    """The ASGI application of one worker; its scoring thread ends with it."""

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        if lifespan is None:
            yield
        else:
            async with lifespan(app):
                yield
        service.batcher.close()

    handlers: dict[Any, Any] = {Refused: _refused, HTTPException: _unknown}
    return Starlette(routes=Routes(service).all(), lifespan=life, exception_handlers=handlers)
