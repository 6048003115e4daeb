"""Several requests as one, so that one call of the graphs serves them all. In: what the encoder made of each; out: one Inputs."""

from collections.abc import Sequence

import numpy as np

from interformer_rec.serving.request import Bags, Histories, Inputs, Rows


def join_rows(parts: Sequence[Rows]) -> Rows:
    """The rows of all parts in order; all parts are of one side of one model."""
    if len(parts) == 1:
        return parts[0]
    return Rows(
        dense=np.concatenate([part.dense for part in parts]),
        ids=np.concatenate([part.ids for part in parts]),
        bags=tuple(
            Bags(np.concatenate([bag.rows for bag in bags]), np.concatenate([bag.lengths for bag in bags]))
            for bags in zip(*(part.bags for part in parts), strict=True)
        ),
        histories=tuple(
            Histories(np.concatenate([one.rows for one in group]), np.concatenate([one.lengths for one in group]))
            for group in zip(*(part.histories for part in parts), strict=True)
        ),
    )


def join_owners(owners: Sequence[np.ndarray], users: Sequence[int]) -> np.ndarray:
    """Whose candidate each one is, counted over the users of all parts: part i has `users[i]` of them."""
    before = np.cumsum([0, *users[:-1]])
    return np.concatenate([mine + first for mine, first in zip(owners, before, strict=True)])


def join(parts: Sequence[Inputs]) -> Inputs:
    """All users, all candidates, and whose each one is."""
    return Inputs(
        users=join_rows([part.users for part in parts]),
        candidates=join_rows([part.candidates for part in parts]),
        owners=join_owners([part.owners for part in parts], [part.users.count for part in parts]),
    )


def cut(values: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
    """(C, ...) of joined parts -> each part's own rows; the inverse of joining."""
    return np.split(values, np.cumsum(sizes)[:-1])
