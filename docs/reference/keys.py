"""Keys of a pydantic model as lines of a Markdown table. In: a model; out: a Key for each, with type, bounds, default and description."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel

UNBOUNDED = 2**31 - 1  # a maximum from here on says nothing to a reader
HEAD = "| key | type | default | meaning |\n|---|---|---|---|"
Schema = dict[str, Any]


class Key(NamedTuple):
    """One line of a page."""

    path: str
    kind: str
    default: str
    meaning: str

    def line(self) -> str:
        """As a row of a Markdown table."""
        meaning = self.meaning.replace("|", "\\|").replace("\n", " ")
        return f"| `{self.path}` | {self.kind} | {self.default} | {meaning} |"


def bounds(schema: Schema) -> str:
    """', at least 1' and the like; '' without bounds that matter."""
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    texts = []
    if low is not None and high is not None and high < UNBOUNDED:
        texts.append(f"{low:,g} to {high:,}")
    else:
        texts += [f"at least {low:,g}"] if low is not None else []
        texts += [f"at most {high:,}"] if high is not None and high < UNBOUNDED else []
    texts += [f"above {above:,g}"] if above is not None else []
    texts += [f"below {below:,g}"] if below is not None and below < UNBOUNDED else []
    return "".join(f", {text}" for text in texts)


def kind_of(schema: Schema) -> str:
    """The type of a value, in words."""
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        return "; or ".join(dict.fromkeys(kind_of(part) for part in schema["anyOf"]))
    if "$ref" in schema:
        return "mapping"
    kind = schema.get("type", "number")
    if kind == "array":
        items = schema.get("items") or (schema.get("prefixItems") or [{}])[0]
        pair = f" of {len(schema['prefixItems'])}" if "prefixItems" in schema else ""
        least = ", at least one" if schema.get("minItems") and not pair else ""
        return f"list{pair}{least}: {kind_of(items)}" if items else "list"
    if kind == "object":
        return f"mapping of {kind_of(schema.get('additionalProperties', {}))}"
    return f"{ {'string': 'text', 'boolean': 'true or false'}.get(kind, kind) }{bounds(schema)}"


def parts(schema: Schema, definitions: dict[str, Schema]) -> tuple[Schema | None, str]:
    """The mapping that a value holds, if it holds any, and how its keys are reached: '', '[]' (a list) or '.NAME' (by name)."""
    for part in schema.get("anyOf", [schema]):
        items, named = part.get("items"), part.get("additionalProperties")
        for inner, step in ((part, ""), (items, "[]"), (named, ".NAME")):
            if isinstance(inner, dict) and "$ref" in inner:
                return definitions[inner["$ref"].rsplit("/", 1)[-1]], step
    return None, ""


def default_of(name: str, schema: Schema, required: list[str]) -> str:
    """A default as YAML has it."""
    if name in required:
        return "required"
    value = schema.get("default", {} if schema.get("type") == "object" else None)
    return f"`{json.dumps(value)}`"


def keys_of(model: Schema, definitions: dict[str, Schema], prefix: str = "") -> Iterator[Key]:
    """Every key of a mapping and of the mappings in it, in the order of the code."""
    for name, schema in model.get("properties", {}).items():
        path = f"{prefix}{name}"
        if "const" in schema:  # the kind that a section is about
            continue
        inner, step = parts(schema, definitions)
        meaning = schema.get("description") or (first_sentence(inner) if inner is not None else "")
        required = model.get("required", [])
        if inner is None:
            yield Key(path, kind_of(schema), default_of(name, schema, required), meaning)
            continue
        kind = {"": "mapping", "[]": "list of mappings", ".NAME": "mapping by name"}[step]
        default = "required" if name in required else ("`null`" if schema.get("default", 0) is None else "")
        yield Key(path, kind, default, meaning)
        yield from keys_of(inner, definitions, f"{path}{step}.")


def first_sentence(schema: Schema) -> str:
    """Of a class's docstring."""
    return schema.get("description", "").split("\n\n")[0].replace("\n", " ")


def keys(model: type[BaseModel], prefix: str = "") -> list[Key]:
    """Every key of a pydantic model."""
    schema = model.model_json_schema()
    return list(keys_of(schema, schema.get("$defs", {}), prefix))


def table(lines: list[Key]) -> str:
    """Keys as a Markdown table."""
    return "\n".join([HEAD, *(key.line() for key in lines)])
