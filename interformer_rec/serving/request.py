"""What a scorer is asked: table rows and numbers of users and of their candidates. In: what an encoder made; out: what the lookup reads.

Ids are rows of the tables already, as in a Batch, and dense features are filled, clipped and standardised. The order of features is that
of the signature, which is that of the schema. Legend: N rows (R users or C candidates), m dense columns, k columns of a history.

    user 0 watched 7 8, user 1 watched 9     Histories.rows     [[7], [8], [9]]      oldest event first, newest last
    (a history of one column)                Histories.lengths  [2, 1]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interformer_rec.config.features import FeatureSchema, SequenceGroup
from interformer_rec.errors import InputError

NO_ROW = -1  # of an id that is null where the schema says `null: empty`: a zero vector


@dataclass(frozen=True)
class Bags:
    """One bag feature of N rows: row i holds the next `lengths[i]` of `rows`. An empty bag is a zero vector."""

    rows: np.ndarray  # (V,) int64
    lengths: np.ndarray  # (N,) int64


@dataclass(frozen=True)
class Histories:
    """One sequence group of N users; only the newest max_length events of each, oldest first."""

    rows: np.ndarray  # (E, k) int64, a column for each of the group's columns
    lengths: np.ndarray  # (N,) int64


@dataclass(frozen=True)
class Rows:
    """The features of one side for N rows, each kind in the order of `Side`."""

    dense: np.ndarray  # (N, m) float32
    ids: np.ndarray  # (N, ids) int64, NO_ROW where there is none
    bags: tuple[Bags, ...]
    histories: tuple[Histories, ...]  # the candidates have none

    @property
    def count(self) -> int:
        """N."""
        return len(self.dense)


@dataclass(frozen=True)
class Inputs:
    """R users and C candidates, each of one of them. Independent rows are R = C and `owners` 0 .. C - 1."""

    users: Rows
    candidates: Rows
    owners: np.ndarray  # (C,) int64 below R: whose candidate it is


@dataclass(frozen=True)
class Side:
    """Names of one side's features, in the order in which Rows holds them."""

    dense: tuple[str, ...]
    ids: tuple[str, ...]
    bags: tuple[str, ...]
    histories: tuple[str, ...] = ()

    @classmethod
    def both(cls, features: FeatureSchema) -> tuple[Side, Side]:
        """The user's and the candidate's.

        The candidate's are those under features.candidate, with model.split or without. A schema that names none leaves it open what a
        user is: then every dense column, id and bag may differ between candidates, and the histories are the user's.
        """
        named = {feature.name for feature in (*features.dense, *features.ids, *features.bags)}
        shown = set(features.candidate) or named
        kinds = (features.dense, features.ids, features.bags)
        users = [tuple(feature.name for feature in kind if feature.name not in shown) for kind in kinds]
        candidates = [tuple(feature.name for feature in kind if feature.name in shown) for kind in kinds]
        histories = tuple(group.name for group in features.sequences)
        return cls(users[0], users[1], users[2], histories), cls(candidates[0], candidates[1], candidates[2])


def check_rows(rows: Rows, side: Side, groups: dict[str, SequenceGroup], what: str) -> None:
    """Raises InputError where the parts of `rows` do not fit the side's features or each other; `what` names them in the message."""
    count = rows.count
    lengths = [*(bag.lengths for bag in rows.bags), *(history.lengths for history in rows.histories)]
    wanted = (len(side.dense), len(side.ids), len(side.bags), len(side.histories))
    found = (rows.dense.shape[1], rows.ids.shape[1], len(rows.bags), len(rows.histories))
    if found != wanted or len(rows.ids) != count or any(len(one) != count for one in lengths):
        raise InputError(
            f"{what} have {found} dense columns, ids, bags and histories, the model has {wanted}, and each part needs {count} rows"
        )
    for name, history in zip(side.histories, rows.histories, strict=True):
        longest = int(history.lengths.max(initial=0))
        if longest > groups[name].max_length:
            raise InputError(
                f"{what}: history {name!r} has {longest} events, at most {groups[name].max_length} count: pass the newest ones"
            )
        if history.rows.shape != (int(history.lengths.sum()), len(groups[name].columns)):
            raise InputError(
                f"{what}: history {name!r} has rows of shape {history.rows.shape}, its lengths add up to {int(history.lengths.sum())} "
                f"events of {len(groups[name].columns)} columns"
            )
    for name, bag in zip(side.bags, rows.bags, strict=True):
        if len(bag.rows) != int(bag.lengths.sum()):
            raise InputError(
                f"{what}: bag {name!r} has {len(bag.rows)} ids, its lengths add up to {int(bag.lengths.sum())}"
            )
