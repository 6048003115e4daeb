"""Which inputs moved a score: each is left out in turn. In: one user, a few candidates; out: rows without an input, and how scores differ.

An input is left out by null, or by an empty list, where the model takes that; those that it cannot go without are not tried.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from interformer_rec.data.decode.arrays import is_list
from interformer_rec.serving.signature import Input, Signature

MOST_CANDIDATES = 20


def left_out(signature: Signature) -> dict[str, Any]:
    """Input -> the value that leaves it out, in order. Columns of one history go together (`groups_of`)."""
    found: dict[str, Any] = {}
    types = signature.types
    for one in signature.inputs:
        if is_list(types[one.name]):
            found[one.name] = []
        elif one.nullable:
            found[one.name] = None
    return found


def variants(
    signature: Signature, together: Sequence[Sequence[str]], row: Mapping[str, Any]
) -> list[tuple[tuple[str, ...], dict[str, Any]]]:
    """(names left out, the row without them) for each input, or group of inputs that belong together, of one whole row."""
    values = left_out(signature)
    grouped = {name: tuple(group) for group in together for name in group}
    sets = dict.fromkeys(grouped.get(one.name, (one.name,)) for one in signature.inputs)
    return [
        (names, dict(row) | {name: values[name] for name in names})
        for names in sets
        if all(name in values for name in names)
    ]


def moved(names: Sequence[tuple[str, ...]], with_all: np.ndarray, without: np.ndarray) -> list[dict[str, Any]]:
    """How far each input moved the logit, the largest mean move first. `with_all` (C,), `without` (C, inputs): probabilities."""
    moves = _logit(with_all)[:, None] - _logit(without)
    order = np.argsort(-np.abs(moves).mean(axis=0), kind="stable")
    return [{"inputs": list(names[i]), "logit": moves[:, i].astype(np.float64)} for i in order]


def _logit(probability: np.ndarray) -> np.ndarray:
    kept = np.clip(probability.astype(np.float64), 1e-9, 1 - 1e-9)
    return np.log(kept) - np.log1p(-kept)


def whole_row(user: Mapping[str, Any], candidate: Mapping[str, Any], inputs: Sequence[Input]) -> dict[str, Any]:
    """One independent row of a user and a candidate."""
    both = {**user, **candidate}
    return {one.name: both[one.name] for one in inputs if one.name in both}
