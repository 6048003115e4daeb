"""A request -> what the scorer is asked: the same table rows and numbers that training would have made of it. In: parsed JSON or Arrow
tables; out: serving/request.Inputs, or a Refusal.

A request is one user and the candidates to rank, or rows that have nothing to do with each other. Rows come as a list of objects, as an
object of lists, or as an Arrow table. Needs no torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.decode.decoder import row_maps
from interformer_rec.data.fit import Fitted
from interformer_rec.serving.encode.keys import Keys
from interformer_rec.serving.encode.refusal import Refusal, shown
from interformer_rec.serving.encode.side import Origin, SideColumns
from interformer_rec.serving.request import Inputs, Rows, Side
from interformer_rec.serving.signature import Signature, columns_by_side

MOST_KEYS = 64  # sets of columns that users have given for all candidates, kept
USER, CANDIDATES, ROWS = "user", "candidates", "rows"


class Encoder:
    """Made once for an exported model; used by several threads. Raises DamagedError where its parts do not belong together."""

    def __init__(self, features: FeatureSchema, fitted: Fitted, signature: Signature) -> None:
        signature.check(features)
        self._features, self._inputs = features, {one.name: one for one in signature.inputs}
        self._ignores = signature.unknown == "ignored"
        maps, types = row_maps(features, fitted), signature.types
        self._user, self._candidate = (
            SideColumns(features, side, types, maps, fitted.moments) for side in Side.both(features)
        )
        users, candidates = columns_by_side(features)
        self._of_candidate = candidates
        self._either = frozenset(name for name, one in self._inputs.items() if one.part == "either")
        named = {name: "a candidate" for name in candidates if name not in users and name not in self._either}
        self._user_keys = Keys((self._inputs[name] for name in users), self._ignores, named, self._either)
        self._row_keys = Keys(self._inputs.values(), self._ignores, {})
        self._candidate_keys: dict[frozenset[str], Keys] = {}

    def rank(self, user: Any, candidates: Any) -> Inputs:
        """One user's candidates: `user` is an object, `candidates` a list of objects or an object of lists. Raises Refusal."""
        given = self._user_keys.row(user, USER)
        shared = frozenset(name for name in given if name in self._of_candidate)
        keys = self._keys_of_candidates(shared)
        columns, count = self._columns(candidates, keys, CANDIDATES)
        users = {name: [value] for name, value in given.items()}
        if shared:
            columns = columns | {name: users[name] * count for name in shared}
        of_user = self._user(users, 1, Origin(USER, numbered=False))
        of_candidates = self._candidate(columns, count, Origin(CANDIDATES, shared=shared))
        return Inputs(of_user, of_candidates, np.zeros(count, np.int64))

    def score(self, rows: Any) -> Inputs:
        """Independent rows: a list of objects or an object of lists. Raises Refusal."""
        columns, count = self._columns(rows, self._row_keys, ROWS)
        origin = Origin(ROWS)
        return _paired(self._user(columns, count, origin), self._candidate(columns, count, origin))

    def _columns(self, given: Any, keys: Keys, part: str) -> tuple[dict[str, list[Any]], int]:
        if type(given) is list:
            columns, count = keys.rows(given, part), len(given)
        elif type(given) is dict:
            columns, count = keys.columns(given, part)
        else:
            raise Refusal(
                "neither a list of objects nor an object of lists", "Write one of them", part=part, value=shown(given)
            )
        if not count:
            raise Refusal("no row", "Write at least one", part=part, value=shown(given))
        return columns, count

    def _keys_of_candidates(self, shared: frozenset[str]) -> Keys:
        """Which keys each candidate needs where the user has given the `shared` ones."""
        keys = self._candidate_keys.get(shared)
        if keys is None:
            inputs = [self._inputs[name] for name in self._of_candidate if name not in shared]
            others = {name: "the user" for name in self._inputs if name not in self._of_candidate or name in shared}
            keys = Keys(inputs, self._ignores, others)
            if len(self._candidate_keys) < MOST_KEYS:
                self._candidate_keys[shared] = keys
        return keys


def _paired(users: Rows, candidates: Rows) -> Inputs:
    """Each user has one candidate."""
    return Inputs(users, candidates, np.arange(candidates.count))
