"""States of users, so that the next request of the same user costs the candidates alone. In: keys, states; out: states.

A key is a digest of everything that the user's graph reads, of the version that made the state and, where the client gives one, of its own
key. The scoring thread alone reads and writes a cache.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import numpy as np

from interformer_rec.serving.request import Rows

ENTRY = 200  # bytes that an entry costs beside its state: key, array header, order


def digest(version: str, users: Rows) -> bytes:
    """Of the inputs of one user for one version."""
    found = hashlib.blake2b(version.encode(), digest_size=16)
    arrays = [users.dense, users.ids]
    arrays += [part for bag in users.bags for part in (bag.lengths, bag.rows)]
    arrays += [part for history in users.histories for part in (history.lengths, history.rows)]
    for array in arrays:
        found.update(np.ascontiguousarray(array).data)
    return found.digest()


def digest_of_key(version: str, key: str) -> bytes:
    """Of a key that the client gives: whoever gives it says that the user's inputs are those that it stood for before."""
    return hashlib.blake2b(version.encode() + b"\0" + key.encode(), digest_size=16, person=b"client").digest()


class StateCache:
    """The states used last, at most `limit` bytes of them; `half`: kept in 16 bits, which moves a logit by some 5e-5."""

    def __init__(self, limit: int, half: bool = False) -> None:
        self.limit, self._half = limit, half
        self.hits = self.misses = self.bytes = 0
        self._states: OrderedDict[bytes, np.ndarray] = OrderedDict()

    def __len__(self) -> int:
        return len(self._states)

    def get(self, key: bytes) -> np.ndarray | None:
        """The state (K, d) in 32 bits, or None."""
        state = self._states.get(key)
        if state is None:
            self.misses += 1
            return None
        self.hits += 1
        self._states.move_to_end(key)
        return state.astype(np.float32, copy=False)

    def put(self, key: bytes, state: np.ndarray) -> None:
        """Keep a copy of the state; the ones not used for longest give way."""
        kept = state.astype(np.float16 if self._half else np.float32)
        cost = kept.nbytes + ENTRY
        if cost > self.limit:
            return
        self._drop(key)
        self._states[key] = kept
        self.bytes += cost
        while self.bytes > self.limit:
            self._drop(next(iter(self._states)))

    def clear(self) -> None:
        """Forget all: another version answers from now on."""
        self._states.clear()
        self.bytes = 0

    def _drop(self, key: bytes) -> None:
        state = self._states.pop(key, None)
        if state is not None:
            self.bytes -= state.nbytes + ENTRY
