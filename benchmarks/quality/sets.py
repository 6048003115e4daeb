"""What is compared. In: quality_sets.yaml and a run's choices; out: data sets, systems, and the run config of one training.

A system is a kind of model with its recipe, or a variant of InterFormer: the same config with some keys changed. Everything
else (features, data, optimizer, trainer) comes from the data set's run config, the same for all.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from interformer_rec import strict_yaml
from interformer_rec.config import run as run_config
from interformer_rec.config.features import Strict
from interformer_rec.config.run import RunConfig
from interformer_rec.errors import InputError
from interformer_rec.tuning.space import space_of

ROOT = Path(__file__).parents[2]
FILE = Path(__file__).with_name("sets.yaml")


class History(Strict):
    """A list column of earlier items, oldest first, and how it can be checked: by `times`, or against the earlier rows."""

    events: str
    times: str | None = Field(None, description="aligned list column with the time of each event")
    where: str | None = Field(None, description="only rows with this feedback column at 1 become events")
    longest: int | None = Field(None, ge=1, description="events kept, the newest; needed without `times`")

    @model_validator(mode="after")
    def _check(self) -> History:
        if self.times is None and self.longest is None:
            raise ValueError(f"history {self.events!r} needs `times` or `longest`")
        return self


class Dataset(Strict):
    """Files, the time by which they are cut, and what the leakage checks have to know."""

    config: str
    variable: str | None = None
    folder: str
    train: str
    valid: str | None = Field(None, description="None: the rows of `train` from `cut` on")
    cut: int | None = None
    test: str
    time: str
    item: str
    others: dict[str, Any] = Field(
        default_factory=dict, description="keys of `config` that all kinds but interformer change"
    )
    ours: dict[str, Any] = Field(default_factory=dict, description="keys of `config` that interformer changes")
    quick: dict[str, Any] = Field(default_factory=dict, description="`ours` in --quick")
    feedback: tuple[str, ...]
    histories: tuple[History, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Dataset:
        if (self.valid is None) == (self.cut is None):
            raise ValueError("name either `valid` or `cut`")
        return self

    def shortened(self) -> Dataset:
        """The data set of --quick."""
        return self.model_copy(update={"ours": self.quick})

    def folder_of(self, given: str | None) -> Path:
        """--data-dir, else the environment variable, else the usual place. Raises InputError where it is no folder."""
        folder = Path(given or os.environ.get(self.variable or "", "") or self.folder)
        if not folder.is_dir():
            how = f" or set {self.variable}" if self.variable else ""
            raise InputError(f"data folder {str(folder)!r} is not there: name it by --data-dir{how}")
        return folder


class Kind(Strict):
    """A kind's fixed recipe."""

    set: dict[str, Any] = Field(default_factory=dict)


class Variant(Strict):
    """A kind with some keys changed."""

    kind: str = "interformer"
    set: dict[str, Any] = Field(default_factory=dict)
    sequences: tuple[str, ...] | None = None
    history: int | None = Field(None, ge=1)


class Sets(Strict):
    """The whole file."""

    data: dict[str, Dataset]
    kinds: dict[str, Kind]
    variants: dict[str, Variant]
    sets: dict[str, tuple[str, ...]]

    def system(self, name: str) -> System:
        """Raises InputError with the nearest names."""
        if name in self.kinds:
            return System(name, name, self.kinds[name], Variant())
        if name in self.variants:
            variant = self.variants[name]
            return System(name, variant.kind, self.kinds[variant.kind], variant)
        raise InputError(unknown("model", name, [*self.kinds, *self.variants]))

    def systems(self, models: str | None, set_name: str | None) -> list[System]:
        """--models (names by comma, or all) or --set. Raises InputError."""
        names: Iterable[str]
        if models is not None and models != "all":
            names = [name.strip() for name in models.split(",") if name.strip()]
        else:
            chosen = set_name or "systems"
            if chosen not in self.sets:
                raise InputError(unknown("--set", chosen, self.sets))
            names = self.sets[chosen]
        return [self.system(name) for name in dict.fromkeys(names)]


class System:
    """A row of the table: name, kind of model, recipe, variant, search space."""

    def __init__(self, name: str, kind: str, recipe: Kind, variant: Variant) -> None:
        self.name, self.kind, self.recipe, self.variant = name, kind, recipe, variant
        self.search = {key: values for key, values in space_of(kind).items() if key not in variant.set}

    @property
    def own_features(self) -> bool:
        """Its inputs differ from the others' on purpose (scaling curves)."""
        return self.variant.sequences is not None or self.variant.history is not None

    def config(self, dataset: Dataset, overrides: Mapping[str, Any], changes: Iterable[str] = ()) -> RunConfig:
        """The run config: data set's file and recipe, this kind, its recipe, the variant, then `overrides`, then `changes` ("a.b=c").

        Raises InputError.
        """
        tree = strict_yaml.read(ROOT / dataset.config, "config")
        if self.kind != "interformer":
            width = tree["model"].get("embedding_dim")
            tree["model"] = {"kind": self.kind, **({"embedding_dim": width} if width else {})}
        groups = tree["features"].get("sequences", [])
        if self.variant.sequences is not None:
            missing = set(self.variant.sequences) - {group["name"] for group in groups}
            if missing:
                raise InputError(f"{self.name}: {dataset.config} has no sequence {sorted(missing)[0]!r}")
            tree["features"]["sequences"] = groups = [g for g in groups if g["name"] in self.variant.sequences]
        if self.variant.history is not None:
            tree["features"]["sequences"] = [{**group, "max_length": self.variant.history} for group in groups]
        known = {
            **(dataset.ours if self.kind == "interformer" else dataset.others),
            **self.recipe.set,
            **self.variant.set,
            **overrides,
        }
        settings = [f"{key}={json.dumps(value)}" for key, value in known.items()]
        text = json.dumps(tree, ensure_ascii=False)  # JSON is YAML, and the faster one to write
        return run_config.parse_yaml(text, f"{dataset.config} ({self.name})", [*settings, *changes])


def load_sets() -> Sets:
    """The file beside this module. Raises InputError that names the place."""
    try:
        return Sets.model_validate(strict_yaml.read(FILE, "file of the study's systems"))
    except ValidationError as error:
        raise InputError(f"{FILE.name} is not valid: {error}") from None


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """A sentence with the nearest known name."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"{what} {name!r} is not known{f'; did you mean {near[0]!r}?' if near else '.'} There: {', '.join(names)}"
