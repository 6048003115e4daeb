"""A request -> what the scorer is asked: the same table rows and numbers that training would have made of it. In: parsed JSON or Arrow
tables; out: serving/request.Inputs, or a Refusal.

A request is one user and the candidates to rank, or rows that have nothing to do with each other. Rows come as a list of objects, as an
object of lists, or as an Arrow table. Needs no torch.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.decode.decoder import row_maps
from interformer_rec.data.fit import Fitted
from interformer_rec.serving.encode.arrow import ArrowColumns
from interformer_rec.serving.encode.keys import Keys
from interformer_rec.serving.encode.refusal import Refusal, shown
from interformer_rec.serving.encode.side import Origin, SideColumns
from interformer_rec.serving.request import Inputs, Rows, Side
from interformer_rec.serving.signature import Signature, columns_by_side

MOST_KEYS = 64  # sets of columns that users have given for all candidates, kept
USER, CANDIDATES, ROWS = "user", "candidates", "rows"
ARROW = (pa.Table, pa.RecordBatch)


class Encoder:
    """Made once for an exported model; used by several threads. Raises DamagedError where its parts do not belong together."""

    def __init__(self, features: FeatureSchema, fitted: Fitted, signature: Signature) -> None:
        signature.check(features)
        self.signature = signature
        self._inputs = {one.name: one for one in signature.inputs}
        self._ignores = signature.unknown == "ignored"
        self.types = signature.types
        maps, types = row_maps(features, fitted), self.types
        sides = Side.both(features)
        self._json = tuple(SideColumns(features, side, types, maps, fitted.moments) for side in sides)
        self._arrow = tuple(
            ArrowColumns(features, side, types, maps, fitted, thin)
            for side, thin in zip(sides, self._json, strict=True)
        )
        users, candidates = columns_by_side(features)
        self._of_candidate = candidates
        self._either = frozenset(name for name, one in self._inputs.items() if one.part == "either")
        named = {name: "a candidate" for name in candidates if name not in users and name not in self._either}
        self._user_keys = Keys((self._inputs[name] for name in users), self._ignores, named, self._either)
        self._row_keys = Keys(self._inputs.values(), self._ignores, {})
        self._candidate_keys: dict[frozenset[str], Keys] = {}

    def rank(self, user: Any, candidates: Any) -> Inputs:
        """One user's candidates: `user` is an object, `candidates` a list of objects or an object of lists; or both are Arrow tables.

        Raises Refusal.
        """
        arrow = isinstance(candidates, ARROW)
        if arrow != isinstance(user, ARROW):
            raise Refusal("one of user and candidates is Arrow and the other JSON", "Write both alike", part=USER)
        users, _ = self._of_table(user, self._user_keys, USER, 1) if arrow else self._of_user(user)
        shared = frozenset(name for name in users if name in self._of_candidate)
        keys = self._keys_of_candidates(shared)
        columns, count = (self._of_table if arrow else self._of_rows)(candidates, keys, CANDIDATES)
        if shared:
            columns = columns | {name: _repeated(users[name], count) for name in shared}
        read_user, read_candidates = self._arrow if arrow else self._json
        of_user = read_user(users, 1, Origin(USER, numbered=False))
        of_candidates = read_candidates(columns, count, Origin(CANDIDATES, shared=shared))
        return Inputs(of_user, of_candidates, np.zeros(count, np.int64))

    def candidates(self, candidates: Any) -> Rows:
        """Candidates of a user whose state is known: a list of objects or an object of lists. Raises Refusal."""
        columns, count = self._of_rows(candidates, self._keys_of_candidates(frozenset()), CANDIDATES)
        return self._json[1](columns, count, Origin(CANDIDATES))

    def score(self, rows: Any) -> Inputs:
        """Independent rows: a list of objects, an object of lists or an Arrow table. Raises Refusal."""
        arrow, origin = isinstance(rows, ARROW), Origin(ROWS)
        columns, count = (self._of_table if arrow else self._of_rows)(rows, self._row_keys, ROWS)
        users, candidates = (read(columns, count, origin) for read in (self._arrow if arrow else self._json))
        return Inputs(users, candidates, np.arange(count))

    def _of_user(self, given: Any) -> tuple[dict[str, Any], int]:
        return {name: [value] for name, value in self._user_keys.row(given, USER).items()}, 1

    def _of_rows(self, given: Any, keys: Keys, part: str) -> tuple[dict[str, Any], int]:
        if type(given) is list:
            columns, count = keys.rows(given, part), len(given)
        elif type(given) is dict:
            columns, count = keys.columns(given, part)
        else:
            what = "neither a list of objects nor an object of lists"
            raise Refusal(what, "Write one of them", part=part, value=shown(given))
        return columns, _require_rows(count, part)

    def _of_table(
        self, given: pa.Table | pa.RecordBatch, keys: Keys, part: str, rows: int | None = None
    ) -> tuple[dict[str, Any], int]:
        """The columns; None where one is absent and that means null."""
        table = given if isinstance(given, pa.Table) else pa.Table.from_batches([given])
        columns = dict(zip(table.column_names, table.columns, strict=True))
        if len(columns) < table.num_columns:
            raise Refusal("a table with two columns of one name", "Write each column once", part=part)
        if rows is not None and table.num_rows != rows:
            raise Refusal(f"a table of {table.num_rows} rows", f"Write {rows} row", part=part)
        return keys.row(columns, part), _require_rows(table.num_rows, part)

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


def _require_rows(count: int, part: str) -> int:
    if not count:
        raise Refusal("no row", "Write at least one", part=part)
    return count


def _repeated(column: Any, count: int) -> Any:
    """A column of one value as one of many."""
    if isinstance(column, pa.ChunkedArray):
        return column.take(pa.array(np.zeros(count, np.int64)))
    return None if column is None else column * count
