"""An equal search for every system. In: a system and a number of trials; out: the best trial's settings, chosen on validation.

The first trial is the system's fixed recipe; the others come from Optuna's TPE sampler. Trial n's sampler is seeded by the
system's name and n and given the trials before it, so a search that was interrupted goes on exactly as it would have: the run
folders are its only memory. A trial whose loss diverged counts, as failed.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from benchmarks.quality.runs import Procedure, finished, train
from benchmarks.quality.sets import Range, System
from interformer_rec.config import run as run_config
from interformer_rec.config.run import RunConfig
from interformer_rec.errors import InputError

RANDOM_TRIALS = 5  # drawn at random, the recipe included, before TPE has something to go by


@dataclass(frozen=True)
class Found:
    """The outcome of a search."""

    settings: dict[str, Any]  # config key -> value; {} is the fixed recipe
    trials: list[dict[str, Any]]  # number, settings, value (validation) or failed


def search(
    system: System, budget: int, make: Callable[[dict[str, Any], str], RunConfig], monitored: str, higher: bool
) -> Procedure[Found]:
    """A procedure for `drive`. `make(settings, folder name)` gives a run config without a test file; budget 0: no search.

    Raises InputError where every trial failed, or the recipe lies outside the ranges.
    """
    if not budget:
        return Found({}, [])
    recipe = make({}, "trial-000")
    space = {key: distribution(key, values, recipe) for key, values in system.search.items()}
    trials: list[dict[str, Any]] = []
    for number in range(budget):
        past = _study(f"{system.name}/{number}", higher, space, recipe, trials)
        settings = _decoded(past.ask(space).params, space) if number else {}
        config = make(settings, f"trial-{number:03d}")
        result = finished(config)
        if result is None:
            result = yield train, (run_config.to_yaml(config),)
            print(f"{system.name} trial {number}: {result.get('valid', {}).get(monitored, 'failed')}", flush=True)
        value = result["valid"][monitored] if "valid" in result else None
        trials.append({"number": number, "settings": settings, "value": value, "failed": result.get("failed")})
    done = [trial for trial in trials if trial["value"] is not None]
    if not done:
        raise InputError(f"{system.name}: none of {budget} trials gave a model; the first says: {trials[0]['failed']}")
    best = (max if higher else min)(done, key=lambda trial: trial["value"])
    return Found(best["settings"], trials)


def distribution(key: str, values: Range, recipe: RunConfig) -> BaseDistribution:
    """Optuna's form of a range. Lists travel as JSON text. Raises InputError if the recipe's own value does not fit."""
    own = value_at(recipe, key)
    if values.choices is not None:
        choices = [_encoded(choice) for choice in values.choices]
        return CategoricalDistribution(choices if _encoded(own) in choices else [_encoded(own), *choices])
    low, high = values.log or values.linear or (0.0, 0.0)
    if own is None or not low <= own <= high:
        raise InputError(
            f"search of {key}: the recipe's own value {own} is not within {low} to {high}; widen the range"
        )
    return FloatDistribution(low, high, log=values.log is not None)


def value_at(config: RunConfig, key: str) -> Any:
    """`optimizer.dense.lr` of a run config, as JSON has it. Raises InputError."""
    node: Any = config.model_dump(mode="json")
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            raise InputError(f"search of {key}: model kind {config.model.kind} has no such key")
        node = node[part]
    return node


def _study(
    name: str, higher: bool, space: dict[str, BaseDistribution], recipe: RunConfig, trials: list[dict[str, Any]]
) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(n_startup_trials=RANDOM_TRIALS, seed=zlib.crc32(name.encode()))
    study = optuna.create_study(direction="maximize" if higher else "minimize", sampler=sampler)
    own = {key: value_at(recipe, key) for key in space}
    for trial in trials:
        params = {key: trial["settings"].get(key, own[key]) for key in space}
        study.add_trial(
            optuna.trial.create_trial(
                params={
                    key: _encoded(value) if isinstance(space[key], CategoricalDistribution) else value
                    for key, value in params.items()
                },
                distributions=space,
                value=trial["value"],
                state=TrialState.FAIL if trial["value"] is None else TrialState.COMPLETE,
            )
        )
    return study


def _encoded(value: Any) -> str:
    return json.dumps(value)


def _decoded(params: dict[str, Any], space: dict[str, BaseDistribution]) -> dict[str, Any]:
    return {
        key: json.loads(value) if isinstance(space[key], CategoricalDistribution) else value
        for key, value in params.items()
    }
