from dataclasses import replace

import numpy as np
import pytest

from interformer_rec.serving.engine.cache import ENTRY, StateCache, digest, digest_of_key
from interformer_rec.serving.request import Bags, Histories, Rows

USER = Rows(
    dense=np.array([[0.5, -1.0]], np.float32),
    ids=np.array([[3, 4]]),
    bags=(Bags(np.array([1, 2]), np.array([2])),),
    histories=(Histories(np.array([[5], [6]]), np.array([2])), Histories(np.zeros((0, 1), np.int64), np.array([0]))),
)


def state(value: float) -> np.ndarray:
    return np.full((2, 4), value, np.float32)


def test_every_input_and_the_version_are_in_the_key() -> None:
    others = [
        replace(USER, dense=np.array([[0.5, 1.0]], np.float32)),
        replace(USER, ids=np.array([[4, 3]])),
        replace(USER, bags=(Bags(np.array([1, 3]), np.array([2])),)),
        replace(USER, bags=(Bags(np.array([1]), np.array([1])),)),
        replace(USER, histories=(Histories(np.array([[6], [5]]), np.array([2])), USER.histories[1])),
        replace(USER, histories=(Histories(np.array([[5]]), np.array([1])), Histories(np.array([[6]]), np.array([1])))),
    ]
    keys = [digest("v1", USER), digest("v2", USER), *(digest("v1", other) for other in others)]
    keys += [digest_of_key("v1", "ann"), digest_of_key("v2", "ann"), digest_of_key("v1", "bob")]
    assert len(set(keys)) == len(keys)
    assert digest("v1", USER) == digest("v1", replace(USER, ids=USER.ids.copy()))


def test_the_states_used_last_are_kept_within_the_limit() -> None:
    cost = state(0).nbytes + ENTRY
    cache = StateCache(3 * cost)
    for name in (b"a", b"b", b"c"):
        cache.put(name, state(ord(name)))
    assert cache.get(b"a") is not None
    cache.put(b"d", state(1))
    assert cache.get(b"b") is None
    found = cache.get(b"a")
    assert found is not None
    np.testing.assert_array_equal(found, state(ord("a")))
    assert (len(cache), cache.bytes, cache.hits, cache.misses) == (3, 3 * cost, 2, 1)
    cache.put(b"d", state(2))
    assert cache.bytes == 3 * cost
    cache.clear()
    assert (len(cache), cache.bytes) == (0, 0)


def test_a_state_is_a_copy_and_one_above_the_limit_is_not_kept() -> None:
    cache, mine = StateCache(1_000), state(1)
    cache.put(b"a", mine)
    mine[:] = 2
    found = cache.get(b"a")
    assert found is not None
    np.testing.assert_array_equal(found, state(1))
    cache.put(b"large", np.zeros((100, 100), np.float32))
    assert cache.get(b"large") is None
    assert StateCache(0).get(b"a") is None


def test_half_precision_halves_the_bytes() -> None:
    cache = StateCache(10_000, half=True)
    cache.put(b"a", state(0.1))
    found = cache.get(b"a")
    assert found is not None
    assert found.dtype == np.float32
    assert cache.bytes == state(0).nbytes // 2 + ENTRY
    assert found[0, 0] == pytest.approx(0.1, abs=1e-4)
