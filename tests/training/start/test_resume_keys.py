"""Every key of a config has a decision for --resume, and the guide's rules give the same one."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, Field

from interformer_rec.config.features import Strict
from interformer_rec.config.run import RunConfig
from interformer_rec.training.start.resume_keys import DECISIONS, ORDER, TABLE

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "resume.md"


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key of a config class, as `Difference.pattern` has it."""
    for name, field in model.model_fields.items():
        yield from keys_of(field.annotation, f"{prefix}{name}")


def keys_of(annotation: Any, key: str) -> Iterator[str]:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    members = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    models = [m for m in members if isinstance(m, type) and issubclass(m, BaseModel)]
    for model in models:
        yield from keys(model, f"{key}.")
    if models and len(models) == len(members):
        return
    plain = next((m for m in members if m not in models and m is not type(None)), None)
    inside = [m for m in get_args(plain) if isinstance(m, type) and issubclass(m, BaseModel)]
    if get_origin(plain) is dict:
        yield f"{key}.*"
    else:
        yield key
    if inside:
        yield f"{key}.*"
        yield from (inner for inner in keys(inside[0], f"{key}.*.") if inner != f"{key}.*.name")


def test_every_key_has_one_decision():
    wanted = set(keys(RunConfig))
    assert {
        "features.dense.*.log1p",
        "data.history_pretraining",
        "data.history_pretraining.labels.*",
        "model.cin",
        "sharding.tables.*",
    } <= wanted
    assert sorted(wanted - set(DECISIONS)) == [], "give these keys a row in resume_keys.TABLE"
    assert sorted(set(DECISIONS) - wanted) == [], "these keys are not in RunConfig"
    listed = [key for row in TABLE for key in row.keys]
    assert len(listed) == len(set(listed))


def test_the_walk_finds_a_new_key():
    class Part(Strict):
        name: str
        new: float = 1.0

    class Config(Strict):
        parts: tuple[Part, ...] = ()
        option: Part | None = None
        widths: Annotated[tuple[int, ...], Field(min_length=1)] = (1,)

    assert set(keys(Config)) == {"parts", "parts.*", "parts.*.new", "option", "option.name", "option.new", "widths"}


def guides_rules(text: str) -> dict[str, str]:
    """Key or beginning of keys -> decision, of the guide's table: `| needs a new run | ... `key` ... |`."""
    rules = {}
    for change in {row.change for row in TABLE}:
        for cell in re.findall(rf"^\| {change} \|([^|]*)\|", text, re.MULTILINE):
            rules |= dict.fromkeys(re.findall(r"`([^`]+)`", cell), change)
    return rules


def guides_decision(rules: dict[str, str], key: str) -> str:
    """That of the longest rule with which the key begins; the rules on order are about the lists alone, not what is below."""
    found = [rule for rule in rules if key == rule or (key.startswith(f"{rule}.") and rules[rule] != ORDER)]
    return rules[max(found, key=len)]


def test_the_guides_rules_give_every_key_its_decision():
    rules = guides_rules(GUIDE.read_text(encoding="utf-8"))
    assert len(rules) > 30
    assert {key: guides_decision(rules, key) for key in DECISIONS} == DECISIONS


def test_a_wrong_rule_is_found():
    text = "| may change | `training` | |\n| needs a new run | `training.monitor` | |\n"
    assert guides_decision(guides_rules(text), "training.monitor") == "needs a new run"
    assert guides_decision(guides_rules(text), "training.epochs") == "may change"


@pytest.mark.parametrize("key", ["features.dense.*.log1p", "features.tables.*.ids", "model.d", "training.monitor"])
def test_what_weights_depend_on_needs_a_new_run(key):
    assert DECISIONS[key] == "needs a new run"
