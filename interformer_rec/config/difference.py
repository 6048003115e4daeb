"""What differs between two configs. In: two config objects of one class; out: each difference with its key and both values.

Features, labels, tables and histories are matched by name: their order in a list is no difference here (`reordered` finds it).
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

ABSENT = "not there"
UNORDERED = {"features.candidate"}  # lists of names that are read as sets


class Difference(NamedTuple):
    """A key whose value is not the same; a feature or table that only one side has differs as a whole."""

    key: str  # features.dense.price.log1p
    pattern: str  # the same with * for names of the user's: features.dense.*.log1p
    before: str  # as a reader wants to see it
    after: str

    def __str__(self) -> str:
        return f"{self.key} was {self.before} and is now {self.after}"


def differences(before: Any, after: Any, key: str = "", pattern: str = "") -> list[Difference]:
    """Every key below `key` in which two values of one config class differ; `pattern`: `key` with * for names."""
    return list(_walk(before, after, key, pattern or key))


def reordered(before: Any, after: Any, key: str = "") -> list[str]:
    """Keys of the lists of named things that both sides have, in another order."""
    if isinstance(before, tuple) and isinstance(after, tuple):
        old, new = by_name(before), by_name(after)
        if old is None or new is None:
            return []
        both = [name for name in old if name in new]
        found = [key] if both != [name for name in new if name in old] else []
        return found + [k for name in both for k in reordered(old[name], new[name], _below(key, name))]
    if not isinstance(before, BaseModel) or type(before) is not type(after):
        return []
    names = type(before).model_fields
    return [k for name in names for k in reordered(getattr(before, name), getattr(after, name), _below(key, name))]


def by_name(value: Any) -> Mapping[str, Any] | None:
    """A mapping whose keys are the user's names, or a list of things that have names, as name -> thing; None for anything else."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, tuple) and all("name" in getattr(type(item), "model_fields", ()) for item in value):
        return {item.name: item for item in value}
    return None


def _walk(before: Any, after: Any, key: str, pattern: str) -> Iterator[Difference]:
    if isinstance(before, BaseModel) and isinstance(after, BaseModel):
        same = type(before) is type(after)
        for name in type(before).model_fields if same else ["kind"]:  # `kind` tells the members of a union apart
            yield from _walk(getattr(before, name), getattr(after, name), _below(key, name), _below(pattern, name))
    elif (old := by_name(before)) is not None and (new := by_name(after)) is not None and pattern not in UNORDERED:
        for name in dict.fromkeys((*old, *new)):
            inside, of_any = _below(key, name), _below(pattern, "*")
            if name in old and name in new:
                yield from _walk(old[name], new[name], inside, of_any)
            else:
                yield Difference(inside, of_any, shown(old.get(name, ABSENT)), shown(new.get(name, ABSENT)))
    elif before != after and not (pattern in UNORDERED and set(before) == set(after)):
        yield Difference(key, pattern, shown(before), shown(after))


def _below(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def shown(value: Any) -> str:
    """A value in one line; of a feature, a table and the like what differs from their defaults."""
    if isinstance(value, str):
        return value
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        given = {name: getattr(value, name) for name in fields if name != "name"}
        value = {name: item for name, item in given.items() if item != fields[name].default}
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {shown(item)}" for name, item in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(shown, value)) + "]"
    return json.dumps(value)
