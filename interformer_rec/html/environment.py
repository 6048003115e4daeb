"""A template becomes a page. In: a template's folder and name, its values; out: the text of one HTML file, readable offline.

Templates extend frame.html.j2, which has the style that all pages share (frame.css), and add their own. Numbers are written by the
functions of text.py, as filters.
"""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from interformer_rec import text

SHARED = ("svg.js", "numbers.js")
FILTERS = ("metric", "count", "share", "size", "ranks", "duration")  # of text.py


def render(folder: Path, name: str, values: Mapping[str, Any]) -> str:
    """The template `name` of the folder, with its values; what a value holds is escaped unless it is Markup."""
    return _environment(folder).get_template(name).render(values)


def json_block(data: Any) -> Markup:
    """JSON that cannot end its script element, whatever names are in it: no `<` is left."""
    return Markup(json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c"))


def script(folder: Path, *names: str) -> Markup:
    """What pages share and the folder's scripts as one: a single scope, in which the later use the earlier."""
    files = (*(Path(__file__).parent / name for name in SHARED), *(folder / name for name in names))
    return Markup("\n".join(file.read_text(encoding="utf-8") for file in files))


@functools.cache
def _environment(folder: Path) -> jinja2.Environment:
    """One a folder: it keeps its compiled templates."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, Path(__file__).parent], encoding="utf-8"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update({name: getattr(text, name) for name in FILTERS})
    return environment
