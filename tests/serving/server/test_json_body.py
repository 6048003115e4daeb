"""A body is JSON in which a key stands once, however it is written."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from interformer_rec.serving.server import json_body
from interformer_rec.serving.server.answers import Refused
from interformer_rec.serving.server.json_body import parsed

RANK = {"user": {"age": 3, "seen": [1, 2]}, "candidates": [{"item": i, "tags": [i]} for i in range(3)]}
TWICE = {
    "of the body": (b'{"rows": [], "rows": []}', "rows"),
    "of an object": (b'{"user": {"age": 1, "age": 2}}', "age"),
    "of a candidate": (b'{"candidates": [{"item": 1}, {"item": 1, "tag": 2, "item": 3}]}', "item"),
    "deep inside": (b'{"inputs": [{"name": "a", "parameters": {"lengths": [1], "lengths": [2]}}]}', "lengths"),
    "written in two ways": (b'{"item": 1, "\\u0069tem": 2}', "item"),
    "beside a blank before a colon": (b'{"a" : 1, "b"\n:2, "a"\t:3}', "a"),
    "beside colons in text": (b'{"rows": [{"at": "12:30", "it": ":x", "at": "y\\": z"}]}', "at"),
    "with a number that Python does not read": (b'{"a": [' + b"9" * 300 + b'], "a": 1}', "a"),
}


@pytest.mark.parametrize("where", TWICE)
def test_a_key_that_stands_twice_is_named(where):
    body, key = TWICE[where]
    with pytest.raises(Refused, match="stands twice in one object") as found:
        parsed(body)
    assert (found.value.status, found.value.kind, found.value.where) == (400, "key_twice", {"field": key})


@pytest.mark.parametrize("indent", [None, 1])
def test_an_honest_request_is_parsed_once(indent, monkeypatch):
    monkeypatch.setattr(json_body, "_refuse_twice", lambda content: pytest.fail("parsed a second time"))
    for body in (RANK, {**RANK, "user": {"at": "2024-01-31T10:00:00Z"}}, {"candidates": {"item": [1, 2]}}, {}):
        assert parsed(json.dumps(body, indent=indent).encode()) == body


def test_what_is_nested_deeper_than_the_second_parser_goes_is_refused():
    """How deep that is, is Python's matter: it changes between its releases."""
    depth, kinds = 1_000, set()
    for _ in range(2):
        body = b'{"a":' * depth + b"1" + b"}" * depth
        try:
            parsed(body)
            kinds.add("parsed")
        except Refused as refused:
            assert refused.status == 400
            kinds.add(refused.kind)
        depth *= 10
    assert kinds <= {"parsed", "bad_json"} and "bad_json" in kinds


def test_random_objects_are_refused_where_a_key_stands_twice_and_only_there():
    generator = random.Random(3)
    refused = 0
    for _ in range(2_000):
        twice: list[bool] = []
        body = '{"a":' + _random_json(generator, 3, twice) + "}"
        try:
            assert parsed(body.encode()) == json.loads(body)
            assert not any(twice), body
        except Refused as error:
            assert error.kind == "key_twice" and any(twice), body
            refused += 1
    assert 100 < refused < 1_900


def _random_json(generator: random.Random, depth: int, twice: list[bool]) -> str:
    """Text of a value; `twice`: whether a key of an object was written twice."""
    blank = generator.choice(["", "", " ", "\n", "\t "])
    kind = generator.randrange(4 if depth else 2)
    if kind == 0:
        return generator.choice(['"a"', '":"', '"a: b"', '"\\":"', '" : "', '"é:"'])
    if kind == 1:
        return generator.choice(["1", "null", "true", "-0.5", "1e3"])
    parts: list[Any] = [_random_json(generator, depth - 1, twice) for _ in range(generator.randrange(4))]
    if kind == 2:
        return "[" + ",".join(parts) + "]"
    keys = [generator.choice(["a", "b", ":", "\\u0061", "c", "d: "]) for _ in parts]
    twice.append(len({json.loads(f'"{key}"') for key in keys}) < len(keys))
    return "{" + ",".join(f'{blank}"{key}"{blank}:{part}' for key, part in zip(keys, parts, strict=True)) + "}"
