"""States of users, so that the next request of the same user costs the candidates alone. In: keys, states; out: states.

A key is a digest of everything that the user's graph reads, of the version with its deltas that made the state and, where the client gives
one, of its own key. The scoring thread alone reads and writes a cache.
"""

import hashlib
from collections import OrderedDict

import numpy as np

from interformer_rec.serving.request import Rows

ENTRY = 200  # bytes that an entry costs beside its state: key, array header, order


def digest(state: str, users: Rows) -> bytes:
    """Of the inputs of one user for one state of the model: a version with its deltas."""
    found = hashlib.blake2b(state.encode(), digest_size=16)
    arrays = [users.dense, users.ids]
    arrays += [part for bag in users.bags for part in (bag.lengths, bag.rows)]
    arrays += [part for history in users.histories for part in (history.lengths, history.rows)]
    for array in arrays:
        found.update(np.ascontiguousarray(array).data)
    return found.digest()


def digest_of_key(state: str, key: str) -> bytes:
    """Of a key that the client gives: alone it stands for the inputs that were last sent with it."""
    return hashlib.blake2b(state.encode() + b"\0" + key.encode(), digest_size=16, person=b"client").digest()


class StateCache:
    """The states used last, at most `limit` bytes of them; `half`: kept in 16 bits, which moves a logit by some 1e-4."""

    def __init__(self, limit: int, half: bool = False) -> None:
        self.limit, self._half = limit, half
        self.hits = self.misses = self.bytes = 0
        self._states: OrderedDict[bytes, tuple[np.ndarray, bytes | None]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._states)

    def get(self, key: bytes, inputs: bytes | None = None) -> np.ndarray | None:
        """The state (W,) in 32 bits, or None; with `inputs`, a digest, only a state that was made of them."""
        state, made_of = self._states.get(key, (None, None))
        if state is None or inputs not in (None, made_of):
            self.misses += 1
            return None
        self.hits += 1
        self._states.move_to_end(key)
        return state.astype(np.float32, copy=False)

    def put(self, key: bytes, state: np.ndarray, inputs: bytes | None = None) -> None:
        """Keep a copy of the state, made of these inputs, in place of what the key had; the ones not used for longest give way."""
        form = np.float16 if self._half else np.float32
        cost = state.size * np.dtype(form).itemsize + ENTRY
        if cost > self.limit:
            return
        kept = state.astype(form)
        self._drop(key)
        self._states[key] = kept, inputs
        self.bytes += cost
        while self.bytes > self.limit:
            self._drop(next(iter(self._states)))

    def clear(self) -> None:
        """Forget all: another state answers from now on."""
        self._states.clear()
        self.bytes = 0

    def _drop(self, key: bytes) -> None:
        state, _ = self._states.pop(key, (None, None))
        if state is not None:
            self.bytes -= state.nbytes + ENTRY
