"""What is searched. In: a model kind or a YAML file; out: a range for each key of a run config, checked against a config.

The spaces of the kinds are in spaces.yaml. Keys are those of --set: `model.d`, `features.sequences.0.max_length`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from interformer_rec import strict_yaml
from interformer_rec.config.errors import nearest
from interformer_rec.config.strict import Strict
from interformer_rec.errors import InputError
from interformer_rec.files import first_problem

SPACES = Path(__file__).with_name("spaces.yaml")
FORMS = "{log: [low, high]}, {linear: [low, high]}, {int: [low, high]} or {choices: [...]}"
# Where a run is, and what its value on validation means: these are the same for all trials.
FIXED = (
    *("name", "data.valid", "data.test", "features.group", "features.labels", "model.kind", "publish"),
    *("training.out", "training.monitor", "training.checkpoint", "training.device", "training.follow"),
)
ABSENT = object()


class Range(Strict):
    """The values of one key: exactly one of the four forms."""

    log: tuple[float, float] | None = Field(None, description="a number, uniform in its logarithm")
    linear: tuple[float, float] | None = Field(None, description="a number, uniform")
    whole: tuple[int, int] | None = Field(None, alias="int", description="a whole number, both ends included")
    choices: tuple[Any, ...] | None = Field(None, min_length=1, description="one of these: any values, lists too")

    @model_validator(mode="after")
    def _check(self) -> Range:
        if sum(part is not None for part in (self.log, self.linear, self.whole, self.choices)) != 1:
            raise ValueError(f"a range is one of {FORMS}")
        if self.choices is not None and len(set(map(encoded, self.choices))) < len(self.choices):
            raise ValueError("a choice is there twice")
        ends = self.ends
        if ends is not None and not ends[0] < ends[1]:
            raise ValueError(f"the range ends at {ends[1]:g}, which is not above {ends[0]:g}, where it begins")
        if self.log is not None and self.log[0] <= 0:
            raise ValueError(f"a log range begins above 0, not at {self.log[0]:g}")
        return self

    @property
    def ends(self) -> tuple[float, float] | None:
        """Of a range of numbers."""
        return self.log or self.linear or self.whole

    def holds(self, value: Any) -> bool:
        """Whether a value of a config lies in the range; choices take any value in."""
        if self.ends is None:
            return True
        return isinstance(value, int | float) and not isinstance(value, bool) and self.ends[0] <= value <= self.ends[1]

    def samples(self) -> tuple[Any, ...]:
        """Values by which the range can be checked: its ends, or all choices."""
        return self.choices if self.choices is not None else (self.ends or ())


Space = Mapping[str, Range]


def encoded(value: Any) -> str:
    """A choice as Optuna stores it: lists and mappings travel as JSON."""
    return json.dumps(value, sort_keys=True)


def space_of(kind: str) -> Space:
    """The space of a model kind."""
    tree = strict_yaml.read(SPACES, "the search spaces")
    return _ranges({**tree["shared"], **tree["kinds"][kind]}, SPACES.name)


def read_space(path: str) -> Space:
    """A space file. Raises InputError that names every key whose range is none."""
    tree = strict_yaml.read(path, "space file")
    if not isinstance(tree, dict) or not tree:
        raise InputError(f"space file {path!r} must be a mapping with a range for each key of a run config: {FORMS}")
    return _ranges(tree, path)


def _ranges(tree: Mapping[Any, Any], source: str) -> Space:
    found, wrong = {}, []
    for key, given in tree.items():
        try:
            found[str(key)] = Range.model_validate(given)
        except ValidationError as error:
            problem = first_problem(error).removeprefix("(top level): ").removeprefix("Value error, ")
            wrong.append(f"  {key}: {problem}" + ("" if FORMS in problem else f"; a range is one of {FORMS}"))
    if wrong:
        raise InputError(f"space file {source!r} is not valid:\n" + "\n".join(wrong))
    return found


def value_at(tree: Any, key: str) -> Any:
    """The value of `optimizer.dense.lr` in the tree of a run config; ABSENT if there is no such key."""
    for part in key.split("."):
        if isinstance(tree, dict) and part in tree:
            tree = tree[part]
        elif isinstance(tree, list) and part.isascii() and part.isdigit() and int(part) < len(tree):
            tree = tree[int(part)]
        else:
            return ABSENT
    return tree


def own_values(space: Space, tree: Any, what: str) -> dict[str, Any]:
    """The config's own values of the keys of a space. `what` the space is begins the messages.

    Raises InputError that names every key that the config has not, or that all trials have to share.
    """
    own = {key: value_at(tree, key) for key in space}
    wrong = [f"  {key}: {_unknown(tree, key)}" for key, value in own.items() if value is ABSENT]
    for key in space:
        fixed = next((one for one in FIXED if key == one or key.startswith(f"{one}.")), None)
        if fixed is not None:
            wrong.append(f"  {key}: trials are compared with each other, so {fixed} is the same in all of them")
        inside = next((other for other in space if other.startswith(f"{key}.")), None)
        if inside is not None:
            wrong.append(f"  {key}: {inside} is a part of it; search one of the two")
    if wrong:
        raise InputError(f"{what} does not fit the config:\n" + "\n".join(wrong))
    return own


def _unknown(tree: Any, key: str) -> str:
    above, _, last = key.rpartition(".")
    parent = value_at(tree, above) if above else tree
    near = nearest(last, list(parent)) if isinstance(parent, dict) else ""
    kind = value_at(tree, "model.kind")
    of_kind = f" (model kind {kind})" if key.startswith("model.") else ""
    return f"the config has no such key{of_kind}{near}"
