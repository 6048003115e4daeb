"""What a batch of requests costs: states from the cache or the user's graph, then one call for all candidates. In: asks; out: scores.

Legend: R users, C candidates, W floats of a state.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from interformer_rec.serving.engine.cache import StateCache, digest, digest_of_key
from interformer_rec.serving.engine.joining import cut, join, join_owners, join_rows
from interformer_rec.serving.request import Inputs, Rows
from interformer_rec.serving.scorer import Scorer, probabilities


@dataclass(frozen=True)
class Ask:
    """The work of one request, made of ids of `state`: a version with its deltas.

    `users` None: the client gave `key` alone; the state that it stands for must be in the cache.
    """

    state: str
    scorer: Scorer
    users: Rows | None
    candidates: Rows
    owners: np.ndarray
    key: str | None = None

    @property
    def size(self) -> int:
        """Candidates, one at least: a request without any costs its user."""
        return max(1, self.candidates.count)


@dataclass(frozen=True)
class Scores:
    """Of one request."""

    values: np.ndarray  # (C, tasks) probabilities
    cached: bool  # whether the user's state was in the cache


class UnknownKeyError(Exception):
    """The client gave a key without the user's inputs, and the cache does not hold it."""


class Engine:
    """Scores batches; the scoring thread alone calls it."""

    def __init__(self, cache: StateCache) -> None:
        self._cache = cache

    def __call__(self, asks: Sequence[Ask]) -> list[Scores | Exception]:
        """The results in order. Requests of different states are scored apart: their ids may be of different vocabularies."""
        results: list[Scores | Exception] = [UnknownKeyError() for _ in asks]
        for state in dict.fromkeys(ask.state for ask in asks):
            mine = [i for i, ask in enumerate(asks) if ask.state == state]
            found = self._version([asks[i] for i in mine])
            for i, result in zip(mine, found, strict=True):
                results[i] = result
        return results

    def _version(self, asks: Sequence[Ask]) -> Sequence[Scores | Exception]:
        scorer = asks[0].scorer
        if not scorer.split:
            return self._whole(scorer, asks)
        states = self._states(scorer, asks)
        known = [(ask, state) for ask, (state, _) in zip(asks, states, strict=True) if state is not None]
        if known:
            logits = scorer.logits(
                join_rows([ask.candidates for ask, _ in known]),
                join_owners([ask.owners for ask, _ in known], [len(state) for _, state in known]),
                states=np.concatenate([state for _, state in known]),
            )
            parts = iter(cut(probabilities(logits), [ask.candidates.count for ask, _ in known]))
        return [Scores(next(parts), cached) if state is not None else UnknownKeyError() for state, cached in states]

    def _whole(self, scorer: Scorer, asks: Sequence[Ask]) -> Sequence[Scores | Exception]:
        known = [(ask, ask.users) for ask in asks if ask.users is not None]
        if known:
            logits = scorer(join([Inputs(users, ask.candidates, ask.owners) for ask, users in known]))
            parts = iter(cut(probabilities(logits), [ask.candidates.count for ask, _ in known]))
        return [Scores(next(parts), False) if ask.users is not None else UnknownKeyError() for ask in asks]

    def _states(self, scorer: Scorer, asks: Sequence[Ask]) -> list[tuple[np.ndarray | None, bool]]:
        """Each request's states (R, W) and whether they were in the cache; None: a key alone that is not there.

        A request of one user is looked for in the cache; independent rows (R = C) are not.
        """
        keys = [self._key(ask) for ask in asks]
        found = [None if key is None else self._cache.get(*key) for key in keys]
        # two requests of one user in a batch need one state
        missing = {
            key if key is not None else i: users
            for i, (key, state, users) in enumerate(zip(keys, found, (ask.users for ask in asks), strict=True))
            if state is None and users is not None
        }
        if missing:
            made = cut(scorer.states(join_rows(list(missing.values()))), [users.count for users in missing.values()])
        fresh = dict(zip(missing, made, strict=True)) if missing else {}
        for key, state in list(fresh.items()):
            if isinstance(key, tuple):
                self._cache.put(key[0], state[0], key[1])
                fresh[key[0], None] = state  # for a key alone in the same batch
        return [
            (state[None], True) if state is not None else (fresh.get(key if key is not None else i), False)
            for i, (key, state) in enumerate(zip(keys, found, strict=True))
        ]

    @staticmethod
    def _key(ask: Ask) -> tuple[bytes, bytes | None] | None:
        """The cache's key, and a digest of the inputs where the request has both: inputs that are sent count."""
        inputs = digest(ask.state, ask.users) if ask.users is not None and ask.users.count == 1 else None
        if ask.key is not None:
            return digest_of_key(ask.state, ask.key), inputs
        return None if inputs is None else (inputs, None)
