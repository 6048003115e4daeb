"""The body of a request as JSON, in which a key stands once. In: bytes; out: an object, or a refusal.

orjson keeps the last of two equal keys in silence, and a client would not see which value was scored. Every pair has a colon, behind a
quote once blanks are gone; where there are as many of them as keys were kept, none was lost. Colons in text make them more: then a second
and slower parser looks at every pair.
"""

import json
from collections.abc import Iterable
from typing import Any

import orjson

from interformer_rec.serving.server.answers import Refused

BLANKS = b" \t\n\r"  # all that JSON has
SHOWN = 80  # characters of a key in a message


def parsed(content: bytes) -> dict[str, Any]:
    """A JSON object. Raises Refused: NaN, infinities and lone surrogates are no JSON, nor is what nests too deeply for the parser."""
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise Refused(400, "bad_json", f"the body is no JSON: {error}") from None
    if type(found) is not dict:
        raise Refused(400, "bad_json", 'the body must be a JSON object, such as {"user": {...}, "candidates": [...]}')
    keys = _keys(found)
    if content.count(b":") != keys and content.translate(None, BLANKS).count(b'":') != keys:
        _refuse_twice(content)
    return found


def _keys(found: dict[str, Any]) -> int:
    """Keys of the body, of the objects in it, and of the objects in its lists: all that /v1/rank and /v1/score know."""
    count = len(found)
    for value in found.values():
        if type(value) is dict:
            count += len(value)
        elif type(value) is list and set(map(type, value)) == {dict}:
            count += sum(map(len, value))
    return count


def _refuse_twice(content: bytes) -> None:
    """Raises Refused that names the first key that an object has twice. No number is made: some are longer than Python reads."""
    try:
        json.loads(content, object_pairs_hook=_once, parse_int=str, parse_float=str)
    except RecursionError:
        raise Refused(400, "bad_json", "the body's JSON is nested too deeply") from None


def _once(pairs: Iterable[tuple[str, Any]]) -> None:
    seen = set()
    for key, _ in pairs:
        if key in seen:
            message = f"the key {key[:SHOWN]!r} stands twice in one object: write each key once"
            raise Refused(400, "key_twice", message, field=key[:SHOWN])
        seen.add(key)
