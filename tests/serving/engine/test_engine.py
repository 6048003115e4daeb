"""Batches of requests by a real scorer: the same scores together as apart, whatever the cache holds."""

import numpy as np
import pytest

from interformer_rec.serving.engine.cache import StateCache
from interformer_rec.serving.engine.engine import Ask, Engine, Scores, UnknownKeyError
from interformer_rec.serving.engine.joining import join_rows
from interformer_rec.serving.request import Inputs
from interformer_rec.serving.rows_of_batch import inputs_of, part_of
from interformer_rec.serving.scorer import probabilities
from tests.serving.test_scorer import OPTIONS, made


@pytest.fixture(params=["union", "split", "split, two sets, union", "din"])
def model(request, tmp_path):
    _, scorer, batch, features = made(tmp_path, OPTIONS[request.param])
    return scorer, inputs_of(batch, features)


def rank(inputs: Inputs, user: int, candidates: list[int]) -> Inputs:
    """One user of the rows with candidates of others."""
    users = part_of(inputs, user, user + 1).users
    rows = join_rows([part_of(inputs, one, one + 1).candidates for one in candidates])
    return Inputs(users, rows, np.zeros(len(candidates), np.int64))


def ask(scorer, inputs: Inputs, key: str | None = None, version: str = "v1") -> Ask:
    return Ask(version, scorer, inputs.users, inputs.candidates, inputs.owners, key)


def values(results: list[Scores | Exception]) -> list[np.ndarray]:
    return [result.values for result in results if isinstance(result, Scores)]


@pytest.mark.parametrize("half", [False, True])
def test_together_as_apart(model, half):
    scorer, inputs = model
    requests = [rank(inputs, 0, [1, 2, 3]), rank(inputs, 4, [0]), part_of(inputs, 2, 6), rank(inputs, 0, [5])]
    wanted = [probabilities(scorer(one)) for one in requests]
    engine = Engine(StateCache(1 << 20, half))
    for _ in range(2):  # the second time from the cache
        found = engine([ask(scorer, one) for one in requests])
        for mine, right in zip(values(found), wanted, strict=True):
            np.testing.assert_allclose(mine, right, rtol=0, atol=2e-4 if half else 1e-6)
    cached = [result.cached for result in found if isinstance(result, Scores)]
    assert cached == ([True, True, False, True] if scorer.split else [False] * 4)


def test_a_key_alone_needs_a_state(model):
    scorer, inputs = model
    one = rank(inputs, 0, [1, 2])
    engine = Engine(StateCache(1 << 20))
    alone = Ask("v1", scorer, None, one.candidates, one.owners, "ann")
    (unknown,) = engine([alone])
    assert isinstance(unknown, UnknownKeyError)
    first, other, again = engine([ask(scorer, one, "ann"), alone, ask(scorer, one)])
    assert isinstance(first, Scores) and isinstance(again, Scores)
    if not scorer.split:
        assert isinstance(other, UnknownKeyError)
        return
    (found,) = engine([alone])
    assert isinstance(found, Scores) and found.cached
    np.testing.assert_allclose(found.values, probabilities(scorer(one)), rtol=0, atol=1e-6)
    (foreign,) = engine([Ask("v2", scorer, None, one.candidates, one.owners, "ann")])
    assert isinstance(foreign, UnknownKeyError)


def test_inputs_that_are_sent_count_whatever_their_key_stood_for(model):
    """Apart, and in one batch; afterwards the key stands for what was sent last."""
    scorer, inputs = model
    before, after = rank(inputs, 0, [1, 2]), rank(inputs, 4, [1, 2])
    wanted = [probabilities(scorer(one)) for one in (before, after)]
    assert np.abs(wanted[0] - wanted[1]).max() > 1e-4
    apart, together = Engine(StateCache(1 << 20)), Engine(StateCache(1 << 20))
    found = [*values(apart([ask(scorer, before, "ann")])), *values(apart([ask(scorer, after, "ann")]))]
    found += values(together([ask(scorer, before, "ann"), ask(scorer, after, "ann")]))
    for mine, right in zip(found, wanted * 2, strict=True):
        np.testing.assert_allclose(mine, right, rtol=0, atol=1e-6)
    alone = Ask("v1", scorer, None, after.candidates, after.owners, "ann")
    for engine in (apart, together):
        for mine in values(engine([alone])) if scorer.split else []:
            np.testing.assert_allclose(mine, wanted[1], rtol=0, atol=1e-6)


def test_one_user_twice_in_a_batch_is_worked_on_once(model, monkeypatch):
    scorer, inputs = model
    if not scorer.split:
        return
    users: list[int] = []
    plain = scorer.states
    monkeypatch.setattr(scorer, "states", lambda rows: users.append(rows.count) or plain(rows))
    engine = Engine(StateCache(1 << 20))
    engine([ask(scorer, rank(inputs, 0, [one])) for one in (1, 2, 3)])
    assert users == [1]
