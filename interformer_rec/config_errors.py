"""What is wrong with a config, for a reader. In: pydantic's errors and the config's class; out: a line each, with the nearest right key."""

from __future__ import annotations

import difflib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """One line an error: where, what, and for an unknown key the nearest known one."""
    return "\n".join(f"  {_location(item['loc'])}: {_explain(item, model)}" for item in error.errors())


def _location(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in loc) or "(top level)"


def _explain(item: Any, root: type[BaseModel]) -> str:
    """Pydantic's message, with the nearest right name for an unknown key."""
    if item["type"] != "extra_forbidden":
        return item["msg"].removeprefix("Value error, ") + (
            f" (got {item['input']!r})"
            if item["type"] != "missing" and not isinstance(item["input"], (dict, list))
            else ""
        )
    known = _keys_at(root, item["loc"][:-1])
    wrong = str(item["loc"][-1])
    near = difflib.get_close_matches(wrong, known, n=1, cutoff=0.5)
    return (
        f"unknown key {wrong!r}"
        + (f"; did you mean {near[0]!r}?" if near else "")
        + (f" Known here: {', '.join(known)}" if known else "")
    )


def _keys_at(model: Any, loc: tuple[int | str, ...]) -> list[str]:
    """Field names of the model at a location, found by walking the annotations."""
    for part in loc:
        if isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields:
            model = _model_in(model.model_fields[str(part)].annotation)
        elif model is None:
            return []
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _model_in(annotation: Any) -> Any:
    """The config class inside an annotation such as tuple[X, ...], dict[str, X] or X | None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _model_in(arg)) is not None), None)
