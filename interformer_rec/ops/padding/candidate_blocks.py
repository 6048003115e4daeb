"""Candidates of several requests in blocks of one size: (C,) whose each is comes in, where each stands in (K, T) blocks goes out.

What a request's candidates share is worked out once for a block (model.split), in serving and in training. Made on the host.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BLOCK = 2.0  # what a block of candidates costs beside them, in candidates


@dataclass(frozen=True)
class CandidateBlocks:
    """C candidates in K blocks of T places, each block of one user, whose state a split model's graph reads once a block.

    One user's candidates are one block. Those of several users are cut into blocks of one size, the one that costs least; places that are
    left over hold a candidate whose logits nobody reads.
    """

    owners: np.ndarray  # (K,) int64: whose each block is
    size: int  # T
    taken: np.ndarray | None  # (K * T,) the candidate at each place; None: all in order
    places: np.ndarray | None  # (C,) where each candidate stands

    @classmethod
    def of(cls, owners: np.ndarray, users: int) -> CandidateBlocks:
        """`owners` (C,) int64 below `users`."""
        if users == 1 and len(owners):
            return cls(owners[:1], len(owners), None, None)
        counts = np.bincount(owners, minlength=users)
        mine = np.flatnonzero(counts)
        counts, size = counts[mine], _size(counts[mine])
        of_each = -(-counts // size)
        blocks = mine.repeat(of_each)
        in_order = bool((owners[1:] >= owners[:-1]).all())
        if in_order and len(blocks) * size == len(owners):
            return cls(blocks, size, None, None)
        order = owners.argsort(kind="stable")
        before = np.cumsum(of_each * size) - of_each * size
        places = np.arange(len(owners)) + (before - (np.cumsum(counts) - counts)).repeat(counts)
        taken = np.zeros(len(blocks) * size, np.int64)
        taken[places] = order
        found = np.empty_like(places)
        found[order] = places
        return cls(blocks, size, taken, found)

    def cut(self, values: np.ndarray) -> np.ndarray:
        """(C, ...) -> (K, T, ...)."""
        placed = values if self.taken is None else values.take(self.taken, axis=0)
        return placed.reshape(len(self.owners), self.size, *values.shape[1:])

    def joined(self, values: np.ndarray) -> np.ndarray:
        """(K, T, ...) -> (C, ...): the inverse."""
        flat = values.reshape(len(self.owners) * self.size, *values.shape[2:])
        return flat if self.places is None else flat.take(self.places, axis=0)


def _size(counts: np.ndarray) -> int:
    """T for users with so many candidates, at least one each: the cheapest of the counts and the powers of two below."""
    if not counts.size or (most := int(counts.max())) == int(counts.min()):
        return int(counts.max(initial=1))
    sizes = np.unique([*counts, *(1 << np.arange(most.bit_length()))])
    blocks = -(-counts // sizes[:, None]).sum(1)
    return int(sizes[np.argmin(blocks * (BLOCK + sizes))])
