"""What is wrong with a config, for a reader. In: pydantic's errors and the config's class; out: a line each, with the nearest right key."""

from __future__ import annotations

import difflib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """One line an error: where, what, and for an unknown key the nearest known one."""
    return "\n".join(_line(item, model) for item in error.errors())


def _line(item: Any, root: type[BaseModel]) -> str:
    path, models, kind = _walk(root, item["loc"])
    if item["type"] == "union_tag_invalid":
        tags = item["ctx"]["expected_tags"].replace("'", "").split(", ")
        wrong, path = item["ctx"]["tag"], [*path, item["ctx"]["discriminator"].strip("'")]
        text = f"{wrong!r} is not one of {', '.join(tags)}" + nearest(wrong, tags)
    elif item["type"] == "extra_forbidden":
        wrong, known = str(item["loc"][-1]), list(dict.fromkeys(key for model in models for key in model.model_fields))
        of_kind = f" for kind {kind}" if kind else ""
        text = f"unknown key {wrong!r}{of_kind}{nearest(wrong, known)}"
        text += f" Known here: {', '.join(known)}" if known else ""
    else:
        text = item["msg"].removeprefix("Value error, ")
        if item["type"] != "missing" and not isinstance(item["input"], (dict, list)):
            text += f" (got {item['input']!r})"
    return f"  {'.'.join(path) or '(top level)'}: {text}"


def nearest(wrong: str, known: list[str]) -> str:
    """ "; did you mean ...?", or nothing where no known name is close."""
    near = difflib.get_close_matches(wrong, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def _walk(root: Any, loc: tuple[int | str, ...]) -> tuple[list[str], list[type[BaseModel]], str]:
    """A location as the user wrote it, the config classes there, and the kind pydantic chose, which it puts into the location."""
    path: list[str] = []
    models, kind = [root], ""
    for part in loc:
        chosen = [m for m in models if "kind" in m.model_fields and m.model_fields["kind"].default == part]
        if len(models) > 1 and chosen:
            models, kind = chosen, str(part)
            continue
        path.append(str(part))
        fields = [m.model_fields[str(part)] for m in models if part in m.model_fields]
        models = [m for field in fields for m in _models_in(field.annotation)] if fields else models
    return path, models, kind


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The config classes inside an annotation such as tuple[X, ...], dict[str, X], X | None or X | Y."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for arg in get_args(annotation) for found in _models_in(arg)]
