"""A study as a page. In: what summary.py makes of it; out: one HTML file, readable offline.

The table is written here; the plots are drawn by study.js from the numbers, which are in the page as one JSON block.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interformer_rec.html import environment as html

HERE = Path(__file__).parent
STATES = ("done", "pruned", "refused", "failed", "running", "waiting")


def render(content: Mapping[str, Any]) -> str:
    """The page's HTML; the same content gives the same bytes."""
    keys = list(content["space"])
    values = {
        **content,
        "keys": keys,
        "rows": [_row(trial, content, keys) for trial in content["trials"]],
        "states": [(state, content["counts"][state]) for state in STATES if content["counts"].get(state)],
        "seconds": sum(trial["seconds"] or 0.0 for trial in content["trials"]),
        "form": {key: _form(values) for key, values in content["space"].items()},
        "data": html.json_block(content),
        "script": html.script(HERE, "study.js"),
    }
    return html.render(HERE, "study.html.j2", values)


def _row(trial: Mapping[str, Any], content: Mapping[str, Any], keys: list[str]) -> dict[str, Any]:
    """With the config's own values where a trial has no other; the last evaluation of one without a value."""
    last = trial["evaluations"][-1][1] if trial["evaluations"] else None
    return {
        **trial,
        "shown": trial["value"] if trial["value"] is not None else last,
        "cells": [_text(trial["settings"].get(key, content["own"][key])) for key in keys],
        "best": content["best"] is not None and trial["trial"] == content["best"]["trial"],
    }


def _form(values: Mapping[str, Any]) -> str:
    """`log 0.0003 to 0.02`."""
    (name, ends), *_ = values.items()
    return ", ".join(map(_text, ends)) if name == "choices" else f"{name} {_text(ends[0])} to {_text(ends[1])}"


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
