"""An equal search for every system. In: a system and a number of trials; out: the best trial's settings, chosen on validation.

Spaces, the first trial (the system's fixed recipe) and the choice of the next settings are those of `interformer tune`
(interformer_rec/tuning/). What a trial draws depends on the system and the trials before it alone, so a search that was interrupted
goes on exactly as it would have: the run folders are its only memory. A trial whose loss diverged counts, as failed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import TrialState

from benchmarks.quality.runs import Procedure, finished, train
from benchmarks.quality.sets import System
from interformer_rec.config import run as run_config
from interformer_rec.config.run import RunConfig
from interformer_rec.errors import InputError
from interformer_rec.tuning.sampling import PLACE, sampler, suggest
from interformer_rec.tuning.space import own_values


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
    own = own_values(system.search, make({}, "trial-000").model_dump(mode="json"), f"the search of {system.name}")
    require_within(system, own)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    past = optuna.create_study(
        direction="maximize" if higher else "minimize", sampler=sampler(system.name, system.search, own)
    )
    trials: list[dict[str, Any]] = []
    for number in range(budget):
        trial = past.ask()
        trial.set_user_attr(PLACE, number)
        settings = suggest(trial, system.search, own)
        config = make(settings, f"trial-{number:03d}")
        result = finished(config)
        if result is None:
            result = yield train, (run_config.to_yaml(config),)
            print(f"{system.name} trial {number}: {result.get('valid', {}).get(monitored, 'failed')}", flush=True)
        value = result["valid"][monitored] if "valid" in result else None
        past.tell(trial, value, state=TrialState.FAIL if value is None else TrialState.COMPLETE)
        trials.append({"number": number, "settings": settings, "value": value, "failed": result.get("failed")})
    done = [trial for trial in trials if trial["value"] is not None]
    if not done:
        raise InputError(f"{system.name}: none of {budget} trials gave a model; the first says: {trials[0]['failed']}")
    best = (max if higher else min)(done, key=lambda trial: trial["value"])
    return Found(best["settings"], trials)


def require_within(system: System, own: dict[str, Any]) -> None:
    """A recipe outside the ranges would be a point that no other trial can come near. Raises InputError."""
    for key, values in system.search.items():
        if not values.holds(own[key]):
            raise InputError(
                f"search of {key}: the recipe's own value {own[key]} is not within {values.ends}; widen the range"
            )
