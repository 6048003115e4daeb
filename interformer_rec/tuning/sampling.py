"""What a trial tries. In: a study's trials so far; out: Optuna's values for the next one, the same whoever asks.

Values come from Optuna's TPE sampler. Its seed is the study's name and the trial's place in it, so a study that was interrupted goes on
as it would have, and two workers never draw the same numbers. The first trial is the config as it is.
"""

import json
import warnings
import zlib
from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial

from interformer_rec.tuning.space import Range, Space, encoded

RANDOM_TRIALS = 5  # drawn at random, the config itself included, before TPE has something to go by
PLACE = "place"  # user attribute of a trial: its place in the study, from 0


class Sampler(BaseSampler):
    """TPE with a seed of its own for each place of a study; the config's own values at place 0."""

    def __init__(self, name: str, own: Mapping[str, Any]) -> None:
        """`own`: the config's values, as Optuna has them."""
        self.name, self.own = name, own
        self._tpe: tuple[int, TPESampler] | None = None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Keys are drawn one by one."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing, as above."""
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value of one key."""
        place = trial.user_attrs[PLACE]
        if place == 0:
            return self.own[param_name]
        if self._tpe is None or self._tpe[0] != place:
            with warnings.catch_warnings():
                # constant_liar: other workers' trials count as bad
                warnings.simplefilter("ignore", ExperimentalWarning)
                seed = zlib.crc32(f"{self.name}/{place}".encode())
                self._tpe = place, TPESampler(n_startup_trials=RANDOM_TRIALS, seed=seed, constant_liar=True)
        return self._tpe[1].sample_independent(study, trial, param_name, param_distribution)


def sampler(name: str, space: Space, own: Mapping[str, Any]) -> Sampler:
    """Of a study called `name`; `own`: the config's values of the space's keys."""
    return Sampler(name, {key: _stored(space[key], own[key]) for key in space})


def pruner(active: bool) -> BasePruner:
    """A trial ends when its best value so far is worse than the median of finished trials at the same step of training."""
    return MedianPruner(n_startup_trials=RANDOM_TRIALS, n_min_trials=RANDOM_TRIALS) if active else NopPruner()


def distribution(values: Range, own: Any) -> BaseDistribution:
    """Optuna's form of a range; a config's own value joins the choices if it is not among them."""
    if values.choices is not None:
        choices = [encoded(choice) for choice in values.choices]
        return CategoricalDistribution(choices if encoded(own) in choices else [encoded(own), *choices])
    if values.whole is not None:
        return IntDistribution(*values.whole)
    low, high = values.log or values.linear or (0.0, 0.0)
    return FloatDistribution(low, high, log=values.log is not None)


def suggest(trial: Trial, space: Space, own: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a trial that knows its PLACE: config key -> value; {} at place 0, the config as it is."""
    first = trial.user_attrs[PLACE] == 0
    settings = {}
    for key, values in space.items():
        if first and not values.holds(own[key]):
            continue  # Optuna cannot store it; TPE does without this trial for this key
        form = distribution(values, own[key])
        if isinstance(form, CategoricalDistribution):
            value = json.loads(str(trial.suggest_categorical(key, form.choices)))
        elif isinstance(form, IntDistribution):
            value = trial.suggest_int(key, form.low, form.high)
        else:
            assert isinstance(form, FloatDistribution)
            value = trial.suggest_float(key, form.low, form.high, log=form.log)
        if not first:
            settings[key] = value
    return settings


def _stored(values: Range, own: Any) -> Any:
    return encoded(own) if values.choices is not None else own
