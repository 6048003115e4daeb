"""What a study asks. In: a config file, overrides, a space; out: the run config of a trial, and of the best one. No torch, no Optuna.

A trial is a run of the user's config with some keys changed. It never opens the test files, publishes nothing and keeps its checkpoints
in its own folder; the config of the best trial has all of that as the user wrote it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from interformer_rec import strict_yaml
from interformer_rec.config import run as run_config
from interformer_rec.config.difference import differences
from interformer_rec.config.errors import places
from interformer_rec.config.run import HIGHER_IS_BETTER, RunConfig
from interformer_rec.errors import InputError
from interformer_rec.tuning.space import Space, encoded, own_values, read_space, space_of

BEST = "best"
OF_A_TRIAL: Mapping[str, Any] = {
    "data.test": None,
    "publish": None,
    "training.checkpoint.path": None,
    "training.checkpoint.keep": 1,
}


@dataclass(frozen=True)
class Question:
    """The config, its space and the metric that decides."""

    text: str  # of the config, as the user wrote it
    source: str  # its file
    changes: tuple[str, ...]  # of --set
    base: RunConfig
    space: Space
    own: Mapping[str, Any]  # the config's own values of the keys of the space
    out: Path

    @property
    def metric(self) -> str:
        """What is compared: `label/auc`."""
        return f"{self.base.features.labels[0].name}/{self.base.training.monitor}"

    @property
    def higher(self) -> bool:
        """Whether more of it is better."""
        return HIGHER_IS_BETTER[self.base.training.monitor]

    @property
    def evaluations(self) -> str:
        """What pruning can go by, in a sentence for the user; "" where trials are evaluated several times."""
        training = self.base.training
        if training.epochs > 1 or training.eval_every_steps is not None or "training.epochs" in self.space:
            return ""
        return "a trial is evaluated once, at its end, so none can be pruned: set training.eval_every_steps for evaluations in between"

    def folder(self, run: str) -> Path:
        """Of a trial's run."""
        return self.out / "trials" / run

    def trial(self, settings: Mapping[str, Any], run: str) -> RunConfig:
        """A trial's config. Raises InputError where settings contradict each other."""
        return self._config(settings, {**OF_A_TRIAL, "training.out": str(self.folder(run))})

    def best(self, settings: Mapping[str, Any]) -> RunConfig:
        """The config that replays a trial, as the user's own run."""
        return self._config(settings, {"training.out": str(self.out / BEST)})

    def _config(self, settings: Mapping[str, Any], fixed: Mapping[str, Any]) -> RunConfig:
        pairs = [f"{key}={json.dumps(value)}" for key, value in {**settings, **fixed}.items()]
        return run_config.parse_yaml(self.text, self.source, [*self.changes, *pairs])

    def stated(self) -> dict[str, Any]:
        """What every worker of the study has to have in common, as JSON."""
        config = self._config({}, {"training.out": "unnamed"})
        ranges = {key: values.model_dump(mode="json", by_alias=True) for key, values in self.space.items()}
        return {"config": run_config.to_yaml(config), "space": encoded(ranges)}

    def require_same(self, stated: Mapping[str, Any], where: str) -> None:
        """Raises InputError that names what differs from the study that is there."""
        mine = self.stated()
        if stated == mine:
            return
        found = [f"the space was {stated.get('space')}"] if stated.get("space") != mine["space"] else []
        if stated.get("config") != mine["config"]:
            before = run_config.parse_found(str(stated.get("config")), where, like=self.base)
            found += map(str, differences(before, self._config({}, {"training.out": "unnamed"})))
        raise InputError(
            f"the study in {where} is of another config or space: {'; '.join(found)}. Its trials cannot be compared with new ones: "
            "restore that, or begin another study with --out DIR (in a database: --set name=NAME, which names the study)"
        )


def ask(path: str, changes: Sequence[str], space_file: str | None, out: str | None) -> Question:
    """Everything that can be checked before work starts. Raises InputError."""
    text = strict_yaml.dump(strict_yaml.read(path, "config"))
    base = run_config.parse_yaml(text, path, list(changes))
    if base.data.valid is None:
        raise InputError(
            "tune compares trials on data.valid: name validation files in the config, or with --set data.valid=PATH"
        )
    if out is not None and "://" in out:
        raise InputError(f"--out {out!r}: a folder of a file system, which all workers see; --storage takes a URL")
    space = read_space(space_file) if space_file else space_of(base.model.kind)
    what = f"space file {space_file!r}" if space_file else f"the space of model kind {base.model.kind}"
    own = own_values(space, base.model_dump(mode="json"), what)
    folder = Path(out or f"runs/{base.name}-tune").expanduser()
    question = Question(text, path, tuple(changes), base, space, own, folder)
    _require_values(question, what)
    return question


def _require_values(question: Question, what: str) -> None:
    """Refuse values that a key cannot have, whatever other keys are; two keys that do not go together are a trial's own affair."""
    tree, wrong = question.base.model_dump(mode="json"), []
    for key, values in question.space.items():
        for value in values.samples():
            try:
                RunConfig.model_validate(_changed(tree, key.split("."), value))
            except ValidationError as error:
                place = tuple(key.split("."))
                problems = error.errors(include_url=False, include_input=False)
                at_key = [found[: len(place)] == place for found in sorted(places(error, RunConfig))]
                if any(at_key):
                    wrong.append(
                        f"  {key}: {value!r}: {problems[at_key.index(True)]['msg'].removeprefix('Value error, ')}"
                    )
            except InputError:
                pass  # of two keys
    if wrong:
        raise InputError(f"{what} has values that the config cannot have:\n" + "\n".join(wrong))


def _changed(tree: Any, parts: list[str], value: Any) -> Any:
    """A copy of a tree with one value changed."""
    if not parts:
        return value
    first, rest = parts[0], parts[1:]
    if isinstance(tree, list):
        return [_changed(item, rest, value) if number == int(first) else item for number, item in enumerate(tree)]
    return {**tree, first: _changed(tree.get(first), rest, value)}
