"""The server's description for programs (https://spec.openapis.org/oas/v3.1.0). In: the version in use; out: /openapi.json.

The example requests are golden requests of the export: they work as they stand.
"""

from typing import Any

import pyarrow as pa

from interformer_rec import __version__
from interformer_rec.data.decode.arrays import is_list
from interformer_rec.serving.encode.side import element_type
from interformer_rec.serving.engine.versions import Served
from interformer_rec.serving.server.open_inference import datatype
from interformer_rec.serving.server.settings import Settings
from interformer_rec.serving.signature import Input

_JSON = {"BOOL": "boolean", "INT64": "integer", "FP64": "number", "BYTES": "string"}
_ERRORS = {
    "400": "a value, a key or the JSON is wrong: the message says where, and what to do",
    "401": "the token is lacking or wrong",
    "408": "the body came too slowly",
    "413": "too many candidates, or too large a body",
    "429": "too many requests are in work: try again later",
    "503": "the server is ending",
    "504": "the scores were not ready at the deadline",
}


def description(served: Served, settings: Settings) -> dict[str, Any]:
    """The OpenAPI document."""
    user, candidates = served.example["user"], served.example["candidates"]
    rows = [{**user, **candidate} for candidate in candidates]
    both = list(served.signature.inputs)
    of_user = [one for one in both if one.part != "candidate"]
    of_candidate = [one for one in both if one.part != "user"]
    limit = {
        "deadline_ms": {"type": "number", "exclusiveMinimum": 0, "description": f"at most {settings.deadline_ms:g}"}
    }
    rank = {
        "user": _object(served, of_user, [one for one in of_user if one.part == "user"]),
        "candidates": _rows(served, of_candidate, settings.max_candidates),
        "user_key": {
            "type": "string",
            "description": "stands for the user's inputs that were last sent with it: they need not be sent again",
        },
    }
    scored = "probabilities for each task, in the order of the request"
    paths = {
        "/v1/rank": _post("Rank one user's candidates", rank | limit, ["candidates"], served.example, scored),
        "/v1/score": _post(
            "Score independent rows",
            {"rows": _rows(served, both, settings.max_candidates)} | limit,
            ["rows"],
            {"rows": rows},
            scored,
        ),
        "/v1/explain": _post(
            "Which inputs moved the scores of a few candidates",
            {name: rank[name] for name in ("user", "candidates")} | limit,
            ["user", "candidates"],
            {"user": user, "candidates": candidates[:1]},
            "moves of the logit when an input is left out, the largest first",
        ),
        "/v1/status": {"get": _get("Versions, latency and cache of one worker")},
        "/metrics": {"get": _get("Meters for Prometheus")},
        "/v2/health/live": {"get": _get("Open Inference Protocol: the process answers")},
        "/v2/health/ready": {"get": _get("Open Inference Protocol: requests may come")},
        f"/v2/models/{served.name}": {"get": _get("Open Inference Protocol: inputs and outputs")},
        f"/v2/models/{served.name}/infer": {"post": _get("Open Inference Protocol: independent rows as tensors")},
    }
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": served.name, "version": __version__, "description": f"model version {served.version}"},
        "paths": paths,
    }
    if settings.token_file is not None:
        document["components"] = {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}}
        document["security"] = [{"token": []}]
    return document


def _rows(served: Served, inputs: list[Input], most: int) -> dict[str, Any]:
    needed = [one for one in inputs if one.part != "either"]
    return {
        "description": "a list of objects, or an object of lists",
        "oneOf": [
            {"type": "array", "minItems": 1, "maxItems": most, "items": _object(served, inputs, needed)},
            {"type": "object", "additionalProperties": {"type": "array", "maxItems": most}},
        ],
    }


def _object(served: Served, inputs: list[Input], needed: list[Input]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {one.name: _schema(one, served.types[one.name]) for one in inputs},
        "required": [one.name for one in needed if one.absent == "refused"],
        "additionalProperties": served.signature.unknown == "ignored",
    }


def _schema(one: Input, type_: pa.DataType) -> dict[str, Any]:
    lists, word = is_list(type_), _JSON[datatype(element_type(type_))]
    found: dict[str, Any] = {"type": [word, "null"] if (one.nullable_elements if lists else one.nullable) else word}
    if lists:
        found = {"type": ["array", "null"] if one.nullable else "array", "items": found}
    return found | {"description": f"{one.type}: {one.reads}"}


def _post(summary: str, properties: dict[str, Any], needed: list[str], example: Any, answer: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": needed, "additionalProperties": False}
    content = {"application/json": {"schema": schema, "example": example}}
    responses = {"200": {"description": answer}} | {code: {"description": text} for code, text in _ERRORS.items()}
    return {"post": {"summary": summary, "requestBody": {"required": True, "content": content}, "responses": responses}}


def _get(summary: str) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": "see the guide on serving"}}}
