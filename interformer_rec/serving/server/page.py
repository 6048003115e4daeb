"""The page at / for people: model card, versions, live latency and cache, and a request to try. In: the version in use; out: HTML."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from interformer_rec.serving.server.versions import Served

SHOWN_CANDIDATES = 5  # of the example request


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string((files(__package__) / "serve.html.j2").read_text(encoding="utf-8"))


def page(served: Served) -> str:
    """HTML of the page."""
    return _template().render(
        name=served.name,
        version=served.version,
        card=served.card,
        inputs=[(one.name, one.part, one.type, one.reads) for one in served.signature.inputs],
        outputs=[one.name for one in served.signature.outputs],
        example=json.dumps(_short(served.example), indent=1, ensure_ascii=False),
    )


def _short(example: dict[str, Any]) -> dict[str, Any]:
    """The example with its first candidates."""
    return {**example, "candidates": example["candidates"][:SHOWN_CANDIDATES]}
