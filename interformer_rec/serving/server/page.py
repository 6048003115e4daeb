"""The page at / for people: model card, versions, live latency and cache, and a request to try. In: the version in use; out: HTML."""

import json
from pathlib import Path
from typing import Any

from interformer_rec.html.environment import render
from interformer_rec.serving.engine.versions import Served

SHOWN_CANDIDATES = 5  # of the example request


def page(served: Served, with_example: bool = True) -> str:
    """HTML of the page; `with_example`: with a row of the run's data, which is not for everybody."""
    example = _short(served.example) if with_example else _empty(served.example)
    values = {
        "name": served.name,
        "version": served.version,
        "delta": served.newest,
        "deltas": served.deltas,
        "card": served.card,
        "inputs": [(one.name, one.part, one.type, one.reads) for one in served.signature.inputs],
        "outputs": [one.name for one in served.signature.outputs],
        "example": json.dumps(example, indent=1, ensure_ascii=False),
    }
    return render(Path(__file__).parent, "server.html.j2", values)


def _short(example: dict[str, Any]) -> dict[str, Any]:
    """The example with its first candidates."""
    return {**example, "candidates": example["candidates"][:SHOWN_CANDIDATES]}


def _empty(example: dict[str, Any]) -> dict[str, Any]:
    """The keys of a request alone."""
    return {"user": dict.fromkeys(example["user"]), "candidates": [dict.fromkeys(example["candidates"][0])]}
