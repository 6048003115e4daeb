"""The one reader of YAML: what it takes, what it refuses, and that what it writes it reads."""

import random
from pathlib import Path

import pytest

from interformer_rec import strict_yaml
from interformer_rec.errors import InputError


@pytest.mark.parametrize(
    "text, value",
    [
        ("5", 5), ("-5", -5), ("1_000", 1000), ("0x1F", 31), ("0b11", 3), ("0o17", 15),
        ("010", "010"), ("12:30", "12:30"), ("1.2.3", "1.2.3"), ("2020-01-01", "2020-01-01"), ("1_", "1_"),
        ("1.0", 1.0), ("1e-3", 0.001), (".5", 0.5), ("5.", 5.0), ("-1.5E+3", -1500.0), (".inf", float("inf")),
        ("yes", True), ("Off", False), ("~", None), ("null", None), ("'5'", "5"), ('"yes"', "yes"), ("''", ""),
        ("!!str 5", "5"), ("<<", "<<"), ("=", "="), ("a b", "a b"),
    ],
)  # fmt: skip
def test_scalars(text, value):
    found = strict_yaml.parse(f"a: {text}", "here")["a"]
    assert found == value and type(found) is type(value)


def test_keys_are_text_as_written():
    text = "on: 1\nnull: 2\n5: 3\n1.0: 4\n'x': 5\n"
    assert strict_yaml.parse(text, "here") == {"on": 1, "null": 2, "5": 3, "1.0": 4, "x": 5}


def test_an_alias_is_a_copy_and_a_merge_gives_way_to_what_stands_beside_it():
    tree = strict_yaml.parse("a: &a {p: 1, q: 2}\nb: *a\nc: {<<: *a, q: 3}\nd: {<<: [*a, {q: 9, r: 1}]}", "here")
    assert tree["b"] == tree["a"] and tree["b"] is not tree["a"]
    assert (tree["c"], tree["d"]) == ({"p": 1, "q": 3}, {"p": 1, "q": 2, "r": 1})


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_nothing_is_none(text):
    assert strict_yaml.parse(text, "here") is None


def test_a_byte_order_mark_is_no_content():
    assert strict_yaml.parse(b"\xef\xbb\xbfa: 1", "here") == {"a": 1}


def test_the_bound_on_values_can_be_moved(monkeypatch):
    text = "a: &a [1, 1, 1, 1]\nb: [*a, *a, *a]"
    monkeypatch.setenv(strict_yaml.MAX_VALUES, "20")
    with pytest.raises(InputError, match=r"more than 20 values.* environment variable INTERFORMER_YAML_VALUES"):
        strict_yaml.parse(text, "here")
    monkeypatch.setenv(strict_yaml.MAX_VALUES, "30")
    assert len(strict_yaml.parse(text, "here")["b"]) == 3
    monkeypatch.setenv(strict_yaml.MAX_VALUES, "many")
    with pytest.raises(InputError, match="INTERFORMER_YAML_VALUES is 'many'; it must be a number above 0"):
        strict_yaml.parse(text, "here")


def test_a_large_file_is_refused_before_it_is_read_whole(tmp_path):
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.truncate(strict_yaml.MAX_BYTES + 1)
    with pytest.raises(InputError, match=r"config '.*large.yaml' is larger than 8 MiB"):
        strict_yaml.read(path, "config")
    with pytest.raises(InputError, match=r"cannot read config .*: Is a directory"):
        strict_yaml.read(tmp_path, "config")


def test_what_is_written_is_read():
    odd = [
        "yes",
        "1e-3",
        "010",
        "0o7",
        "5",
        "1_0",
        "",
        " a ",
        "a: b",
        "- a",
        "#",
        "é",
        "a\nb\n",
        "<<",
        "=",
        "~",
        "${X}",
        "\x85",
        "*a",
        "!",
    ]
    tree = {"list": odd, "keys": {text: index for index, text in enumerate(odd)}, "f": [1.0, 1e-30, 5e20], "n": None}
    assert strict_yaml.parse(strict_yaml.dump(tree), "here") == tree


ROOT = Path(__file__).parents[1]
FILES = [
    path for folder in ("configs", "benchmarks", "tests/hostile") for path in sorted((ROOT / folder).rglob("*.yaml"))
]


@pytest.mark.skipif(strict_yaml._Compiled is None, reason="this PyYAML was built without libyaml")
def test_libyaml_and_pyyaml_read_the_same(monkeypatch):
    """Files of the project, and texts that are nearly YAML: the values, or the message with its line."""
    texts = [path.read_text(encoding="utf-8") for path in FILES]
    draw = random.Random(3)
    for _ in range(300):
        text = list(
            "a: 1\nb: [1, {c: d}]\n# x\ne:\n  - f: 'q''q'\n    g: |\n      h\n? \"k\\x41\"\n: &x {p: 1}\nn: *x\n"
        )
        for _ in range(draw.randint(1, 4)):
            text.insert(draw.randrange(len(text)), draw.choice(" \t\n:-[]{}#&*>'\"%@?.0é\x85\ufeff\\~"))
        texts.append("".join(text))

    def read(text):
        try:
            return strict_yaml.parse(text, "here")
        except InputError as error:
            return str(error)

    compiled = [read(text) for text in texts]
    monkeypatch.setattr(strict_yaml, "_Compiled", None)
    assert compiled == [read(text) for text in texts]
    assert sum(isinstance(found, str) for found in compiled) > 50
