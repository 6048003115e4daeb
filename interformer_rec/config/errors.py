"""What is wrong with a config, for a reader. In: pydantic's errors and the config's class; out: a line each, with the nearest right key."""

import difflib
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

MOST_LINES = 20
LONGEST = 200  # characters of a value that is shown
RENAMED = {  # keys that had another name: an old one is an error that names the new one
    "data.unroll": "data.history_pretraining",
    "model.embedding_sets": "model.ensemble_members",
    "training.pairwise": "training.pairwise_loss_weight",
}


def explain(
    error: ValidationError, model: type[BaseModel], shown: Mapping[tuple[str, ...], str] = MappingProxyType({})
) -> str:
    """One line an error: where, what, and for an unknown key the nearest known one. `shown`: what stands for the values at these places."""
    items = error.errors(include_url=False)
    lines = [_line(item, model, shown) for item in items[:MOST_LINES]]
    return "\n".join([*lines, f"  and {len(items) - MOST_LINES} more"] if len(items) > MOST_LINES else lines)


def places(error: ValidationError, model: type[BaseModel]) -> set[tuple[str, ...]]:
    """Where the errors are, as keys from the top."""
    return {tuple(_walk(model, item["loc"])[0]) for item in error.errors(include_url=False)}


def _line(item: Any, root: type[BaseModel], shown: Mapping[tuple[str, ...], str]) -> str:
    path, models, kind = _walk(root, item["loc"])
    if item["type"] == "union_tag_invalid":
        tags = item["ctx"]["expected_tags"].replace("'", "").split(", ")
        wrong, path = item["ctx"]["tag"], [*path, item["ctx"]["discriminator"].strip("'")]
        text = f"{wrong!r} is not one of {', '.join(tags)}" + nearest(wrong, tags)
    elif item["type"] == "extra_forbidden":
        wrong, known = str(item["loc"][-1]), list(dict.fromkeys(key for model in models for key in model.model_fields))
        of_kind = f" for kind {kind}" if kind else ""
        renamed = RENAMED.get(".".join(path))
        if renamed and renamed.rpartition(".")[2] in known:
            text = f"this key has a new name: write {renamed} instead. Its meaning and values are the same"
        else:
            text = f"unknown key {wrong!r}{of_kind}{nearest(wrong, known)}"
            text += f" Known here: {', '.join(known)}" if known else ""
    else:
        text = item["msg"].removeprefix("Value error, ").replace("Tuple", "List").replace("a valid tuple", "a list")
        text = re.sub(r"a valid dictionary( or instance of \w+)?", "a mapping of keys", text)
        if item["type"] != "missing" and not isinstance(item["input"], (dict, list, tuple, BaseModel)):
            text += f" (got {_short(shown.get(tuple(path), item['input']))})"
    return f"  {'.'.join(path) or '(top level)'}: {text}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


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
