"""How much worse a model is without what an input says. In: Targets and a scorer; out: for every label and metric a mean and an interval.

Importance of a target: the metric's loss when the target is permuted across rows, so AUC and GAUC before minus after, NE after minus
before: above 0 the model uses it to its advantage. Each permutation is another one, and their mean counts; the interval is over users
(metrics/over_users.py), before and after drawn alike. Permutation feature importance: Breiman (2001), Random Forests; for any model Fisher,
Rudin, Dominici (2019).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from interformer_rec.explaining.rows import KeptRows
from interformer_rec.explaining.scoring import RowScorer
from interformer_rec.explaining.targets import Target
from interformer_rec.metrics.over_users import UserMetrics, drawn, percentiles
from interformer_rec.text import clock, duration

SIGNS = {"auc": 1.0, "gauc": 1.0, "ne": -1.0}  # importance: sign * (before - after)
RESAMPLES = 400
SAY_EVERY = 10.0  # seconds

Values = list[dict[str, np.ndarray]]  # of each task: metric -> (1 + resamples,), first of the data as they are


class Importance:
    """Scores changed rows beside the rows as they are."""

    def __init__(self, scorer: RowScorer, rows: KeptRows, grouped: bool, seed: int, say: Callable[[str], None]) -> None:
        """`grouped`: GAUC is defined. `say`: prints a line."""
        self._scorer, self._rows, self._seed, self._say = scorer, rows, seed, say
        self._names = [name for name in SIGNS if grouped or name != "gauc"]
        self._draws = drawn(rows.users.count, RESAMPLES, seed) if scorer.env.is_main else None
        started = time.monotonic()
        self.logits = scorer(rows.columns)  # (rows, tasks) of the rows as they are
        self._before = self._values(self.logits)
        self._pass_seconds = time.monotonic() - started

    def base(self) -> list[dict[str, Any]]:
        """Of each task: the metrics of the rows as they are, with intervals; [] on other ranks than the first."""
        return [
            {name: {"value": float(at[name][0]), "interval": percentiles(at[name][1:])} for name in self._names}
            for at in self._before
        ]

    def of(self, targets: Sequence[Target], repeats: int) -> list[list[dict[str, Any]]]:
        """Of each target and task {metric: {mean, interval, std}}; [] on other ranks than the first (collective)."""
        passes = [target for target in targets for _ in range(repeats if target.how == "permuted" else 1)]
        expected = duration(self._pass_seconds * len(passes))
        self._say(
            f"{len(targets)} changes of the input, {repeats} permutation{'s' * (repeats > 1)} of each: {len(passes)} passes over "
            f"{self._rows.rows:,} rows, about {expected}"
        )
        progress = _Progress(len(passes), self._say)
        return [self._importance(target, repeats if target.how == "permuted" else 1, progress) for target in targets]

    def _importance(self, target: Target, repeats: int, progress: _Progress) -> list[dict[str, Any]]:
        after = []
        for repeat in range(repeats):
            text = f"{self._seed}/{target.kind}/{target.name}/{repeat}"  # not the order of targets: others may be added
            random = np.random.default_rng(
                int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
            )
            after.append(self._values(self._scorer(target.change(self._rows.columns, random))))
            progress.done()
        return [self._summary(before, [values[task] for values in after]) for task, before in enumerate(self._before)]

    def _summary(self, before: dict[str, np.ndarray], after: list[dict[str, np.ndarray]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in self._names:
            # (repeats, 1 + resamples)
            worse = SIGNS[name] * np.stack([before[name] - values[name] for values in after])
            mean = worse.mean(axis=0)
            std = float(worse[:, 0].std(ddof=1)) if len(worse) > 1 else None
            found[name] = {"mean": float(mean[0]), "interval": percentiles(mean[1:]), "std": std}
        return found

    def _values(self, logits: np.ndarray) -> Values:
        if self._draws is None:
            return []
        columns, users = self._rows.columns, self._rows.users
        tasks = zip(logits.T, columns.labels.T, strict=True)
        return [UserMetrics(scores, labels, columns.weights, users).at(self._draws) for scores, labels in tasks]


class _Progress:
    """A line now and then."""

    def __init__(self, passes: int, say: Callable[[str], None]) -> None:
        self._passes, self._say, self._count = passes, say, 0
        self._started = self._said = time.monotonic()

    def done(self) -> None:
        """One pass more."""
        self._count += 1
        now = time.monotonic()
        if now - self._said >= SAY_EVERY and self._count < self._passes:
            self._said = now
            left = (now - self._started) / self._count * (self._passes - self._count)
            self._say(f"pass {self._count} of {self._passes}, {clock(left)} left")
