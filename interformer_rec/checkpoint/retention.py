"""The checkpoints of a run. In: a folder or URI; out: which there are, which is the last and which the best, and which may go.

There is no list of them beside them: the folders say it all, so a kill between two writes leaves nothing that disagrees.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from interformer_rec.checkpoint.checked import MANIFEST
from interformer_rec.checkpoint.evaluated import Evaluated, Score
from interformer_rec.checkpoint.manifest import Base, Manifest
from interformer_rec.errors import DamagedError
from interformer_rec.storage import Storage

PREFIX = "step-"


@dataclass(frozen=True)
class Ranked:
    """`names`: of the readable checkpoints, the one to use first; `damaged`: a sentence for each that cannot be judged."""

    names: list[str]
    damaged: list[str]


@dataclass(frozen=True)
class _Facts:
    base: Base | None
    score: Score | None
    unjudged: DamagedError | None  # what is wrong with its evaluation


class Checkpoints:
    """Names are step-00000120; one counts when its manifest is there."""

    def __init__(self, location: str | os.PathLike[str]) -> None:
        """Raises InputError for a location that cannot be."""
        self.storage = Storage.open(location)
        self.lost: Callable[[], str] = lambda: ""  # why nothing may be written here any more, in a sentence
        self._given_up: set[str] = set()
        self._known: dict[str, _Facts] = {}  # what `tidy` has read

    def folder(self, step: int) -> Storage:
        """Where the checkpoint of a step goes."""
        return self.storage.folder(f"{PREFIX}{step:08d}")

    def newest_first(self) -> list[str]:
        """Names of the checkpoints that were finished."""
        return [name for name in self._names() if self.storage.size(f"{name}/{MANIFEST}") is not None]

    def best(self) -> str | None:
        """Name of the best by the monitored metric, else of the newest; None before the first."""
        return next(iter(self.ranked().names), None)

    def ranked(self) -> Ranked:
        """Best first by the metric that the newest evaluation monitored, then newest first; the damaged ones apart."""
        facts, damaged = {}, []
        for name in self.newest_first():
            try:
                facts[name] = self._read(name)
                damaged += [str(facts[name].unjudged)] if facts[name].unjudged is not None else []
            except DamagedError as error:
                damaged.append(str(error))
        return Ranked(_rank(facts), damaged)

    def continue_from(self, name: str) -> None:
        """Training goes on from this one: what is newer will go as soon as it has a successor."""
        self._given_up = {other for other in self._names() if _step(other) > _step(name)}

    def tidy(self, name: str, keep: int) -> None:
        """A new one is whole: remove all but the newest `keep`, the best, and what these build on. Raises OSError.

        What is newer than the new one, or newer than the one that training continued from, comes from a future that was given up (a
        damaged checkpoint that `--resume` passed over); it goes, and so does what was never finished. A checkpoint that cannot be read
        does not count; it stays as long as the store may be at fault, or it is newer than one that stays; one whose evaluation cannot be
        read stays as long as it may be the best. Nothing is removed where another job writes by now.
        """
        if lost := self.lost():
            raise OSError(lost)
        present = [other for other in self.newest_first() if _step(other) <= _step(name)]
        present = [other for other in present if other == name or other not in self._given_up]
        self._known.pop(name, None)
        facts: dict[str, _Facts] = {}
        unsure: set[str] = set()
        damaged: set[str] = set()
        for other in present:
            try:
                facts[other] = self._known[other] = self._known.get(other) or self._read(other)
            except DamagedError as error:
                (unsure if _passing(error) else damaged).add(other)
        newest = list(facts)[:keep]
        stay = {*newest, *_rank(facts)[:1]}
        unsure |= {other for other, each in facts.items() if each.unjudged is not None and _may_be_best(other, facts)}
        stay |= unsure | {other for other in damaged if newest and _step(other) > _step(newest[-1])}
        stay |= {base.name for other in stay & facts.keys() if (base := facts[other].base) is not None}
        for other in self._names():
            if other not in stay:
                self.storage.remove(f"{other}/{MANIFEST}")  # first, so that half of it is no checkpoint
                self.storage.remove(other)
        self._given_up = set()

    def _read(self, name: str) -> _Facts:
        """Raises DamagedError."""
        manifest = Manifest.read(self.storage.folder(name))
        try:
            evaluated = Evaluated.read(manifest)
        except DamagedError as error:
            return _Facts(manifest.base, None, error)
        return _Facts(manifest.base, evaluated.score if evaluated is not None else None, None)

    def _names(self) -> list[str]:
        """Newest first."""
        return sorted(filter(_is_name, self.storage.names()), key=_step, reverse=True)


def _passing(error: DamagedError | None) -> bool:
    """Whether the store is at fault, and may be well again tomorrow."""
    return error is not None and isinstance(error.__cause__, OSError)


def _may_be_best(name: str, facts: Mapping[str, _Facts]) -> bool:
    """Of one whose evaluation cannot be read: False where a later evaluation knows the best value, and another checkpoint has it."""
    if _passing(facts[name].unjudged):
        return True
    judged = {other: each.score for other, each in facts.items() if each.score is not None}
    newest = next(iter(judged), None)
    if newest is None or _step(newest) < _step(name):
        return True
    best = judged.get(_rank(facts)[0])
    return best is None or best.monitor != judged[newest].monitor or not judged[newest].is_best(best.value)


def _is_name(name: str) -> bool:
    return re.fullmatch(f"{PREFIX}[0-9]{{8,18}}", name) is not None


def _step(name: str) -> int:
    return int(name.removeprefix(PREFIX))


def _rank(facts: Mapping[str, _Facts]) -> list[str]:
    """Names, newest first, in the order to use them; of equal values the earlier checkpoint comes first, as patience has it."""
    scores = {name: each.score for name, each in facts.items() if each.score is not None}
    monitor = next((score.monitor for score in scores.values()), None)
    values = {name: score.key for name, score in scores.items() if score.monitor == monitor and score.key is not None}
    scored = sorted(values, key=lambda name: (-values[name], _step(name)))
    return [*scored, *(name for name in facts if name not in values)]
