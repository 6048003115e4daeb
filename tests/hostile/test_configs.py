"""Configs that are wrong, from a corpus and from a fuzzer: each is refused by an InputError that says where, or loads and replays."""

from __future__ import annotations

import copy
import random
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from interformer_rec import cli, strict_yaml
from interformer_rec.config import run as config
from interformer_rec.errors import InputError

CORPUS = yaml.safe_load(Path(__file__).with_name("configs.yaml").read_text(encoding="utf-8"))
CONFIGS = Path(__file__).parents[2] / "configs"
BASE = """
name: run
data: {train: rows.parquet}
features:
  tables: {user: {}, item: {}}
  ids: [user, item]
  sequences: [{name: watched, max_length: 5, columns: [{name: item, table: item, column: seen}]}]
  labels: [click]
"""


@pytest.fixture
def base(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(BASE)
    assert config.load(path).name == "run"
    return path


@pytest.mark.parametrize("case", CORPUS["values"], ids=lambda case: case["set"][:40])
def test_a_value_is_refused_with_its_key(base, case):
    with pytest.raises(InputError) as caught:
        config.load(base, [case["set"]])
    said = str(caught.value)
    assert re.search(case["says"], said), said
    assert len(said) < 2000


@pytest.mark.parametrize("case", CORPUS["files"], ids=lambda case: repr(case["content"])[:40])
def test_a_file_is_refused_with_its_line(tmp_path, case, capfd):
    path = tmp_path / "run.yaml"
    path.write_bytes(_content(case["content"]))
    assert cli.main(["config", str(path)]) == 2
    said = capfd.readouterr().err
    assert re.search(case["says"], said) and "run.yaml" in said and "Traceback" not in said, said


@pytest.mark.parametrize("case", CORPUS["bombs"], ids=lambda case: case["line"][:20])
def test_a_bomb_is_refused_soon(case):
    lines = [case["line"].replace("N", str(n)).replace("M", str(n - 1)) for n in range(1, case["to"] + 1)]
    began = time.perf_counter()
    with pytest.raises(InputError, match=case["says"]):
        config.parse_yaml("\n".join([case["start"], *lines]), "bomb.yaml")
    assert time.perf_counter() - began < 20


@pytest.mark.slow
def test_mutants_of_the_shipped_configs_load_and_replay_or_are_refused(monkeypatch):
    monkeypatch.setenv("KUAIRAND_PURE", "/somewhere")
    trees = [strict_yaml.read(path, "config") for path in sorted(CONFIGS.glob("*.yaml"))]
    trees += [strict_yaml.parse(config.to_yaml(config.load(path)), "saved") for path in sorted(CONFIGS.glob("*.yaml"))]
    draw, loaded, refused = random.Random(0), 0, 0
    for _ in range(1_000):
        tree = copy.deepcopy(draw.choice(trees))
        changes = [_mutate(tree, draw) for _ in range(draw.choice([1, 1, 1, 2, 3]))]
        try:
            found = config.parse_yaml(strict_yaml.dump(tree), "mutant")
        except InputError:
            refused += 1
            continue
        loaded += 1
        assert config.parse_yaml(config.to_yaml(found), "saved") == found, changes
    assert loaded > 20 and refused > 100


@pytest.mark.slow
def test_damaged_text_of_the_shipped_configs_loads_or_is_refused(monkeypatch):
    monkeypatch.setenv("KUAIRAND_PURE", "/somewhere")
    texts = [path.read_bytes() for path in sorted(CONFIGS.glob("*.yaml"))]
    draw = random.Random(1)
    for _ in range(3_000):
        text = bytearray(draw.choice(texts))
        for _ in range(draw.randint(1, 8)):
            at = draw.randrange(len(text))
            text[at : at + draw.randint(0, 3)] = draw.choice(
                [b"&a ", b"*a", b"\t", b"\xff", b"{", b"]", b"'", b"\n", b": ", b"<<: *a", b""]
            )
        try:
            config.parse_yaml(bytes(text), "damaged")
        except InputError as error:
            assert "damaged" in str(error)


VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 1.0, -0.5, 1e308, float("inf"), float("nan"), 2**31, 2**63, 2**64, -(2**63), "", "x", "a/b",
    "..", "${HOME}", "$${X}", "${NONE:-5}", "1", "1.0", "yes", [], {}, [1], [None], [[]], {"a": 1}, "\x00", "é", "x" * 5000,
    "s3://b/x", "s3://k:p@b/x", "null", [-1], [2**40], "name", "auto", "0o7", "1e-3", "\x85",
]  # fmt: skip


def _mutate(tree: Any, draw: random.Random) -> str:
    """Change one place; what was done."""
    *path, last = draw.choice([place for place in _places(tree) if place])
    node = tree
    for part in path:
        node = node[part]
    what, value = draw.random(), copy.deepcopy(draw.choice(VALUES))
    if what < 0.7:
        node[last] = value
    elif what < 0.8:
        del node[last]
    elif isinstance(node, dict):
        node[draw.choice(["kind", "zzz", "name", "preset", "", "column"])] = value
    else:
        node.append(copy.deepcopy(node[last]))
    return f"{(*path, last)}: {what:.2f} {value!r:.60}"


def _places(node: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [place, *(found for key, value in inside for found in _places(value, (*place, key)))]


def _content(text: str) -> bytes:
    """\\xNN and \\n in the corpus are bytes."""
    return re.sub(
        rb"\\x([0-9a-f]{2})",
        lambda found: bytes.fromhex(found[1].decode()),
        text.replace("\\n", "\n").replace("\\t", "\t").encode(),
    )
