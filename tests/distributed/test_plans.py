"""Whatever the plan and the world size: the same first weights, the same losses, the same weights after training."""

import numpy as np
import pytest

from tests.distributed.tiny import build, train, whole_state
from tests.launch import on_one, on_ranks

PLANS = ("table_wise", "data_parallel", "row_wise", "column_wise")
KINDS = ("sgd", "adagrad", "rowwise_adagrad")
STEPS = 30


def _trained(env, cases, steps):
    """(first weights, losses, last state) of every (plan, optimizer)."""
    found = {}
    for plan, kind in cases:
        parallel = build(env, plan, kind)
        first = whole_state(env, parallel)
        losses = train(env, parallel, 0, steps)
        kinds = {one.table: one.sharding for one in parallel.plan}
        found[plan, kind] = (first, losses, whole_state(env, parallel), kinds)
    return found


@pytest.fixture(scope="module")
def results():
    cases = [(plan, kind) for plan in PLANS for kind in KINDS]
    one = on_one(_trained, [("table_wise", kind) for kind in KINDS], STEPS)
    return one, on_ranks(2, _trained, cases, STEPS)[0]


def test_plans_are_what_was_asked_for(results):
    _, two = results
    assert set(two["column_wise", "sgd"][3].values()) == {"column_wise"}
    assert two["data_parallel", "sgd"][3]["bag_a"] == "data_parallel"
    assert two["row_wise", "sgd"][3]["seq_a"] == "row_wise"
    assert {*two["table_wise", "sgd"][3].values()} == {"table_wise"}


@pytest.mark.parametrize("plan", PLANS)
def test_first_weights_do_not_depend_on_the_plan(results, plan):
    one, two = results
    expected, got = one["table_wise", "sgd"][0], two[plan, "sgd"][0]
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name], array, err_msg=name)
    assert 0.3 < expected["bag_b/weight"].std() < 0.7


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("kind", KINDS)
def test_one_and_two_ranks_train_alike(results, plan, kind):
    """The same global batches, B on one rank, 2 x B/2 on two."""
    one, two = results
    _, losses, state, _ = one["table_wise", kind]
    _, got_losses, got_state, _ = two[plan, kind]
    assert losses[-1] < losses[0] or min(losses) < 0.5 * losses[0]
    if plan == "column_wise" and kind == "rowwise_adagrad":
        # One accumulator a row and column shard is another optimizer (docs/decisions); it must still train as well.
        assert abs(np.mean(got_losses[-10:]) - np.mean(losses[-10:])) < 0.05
        return
    np.testing.assert_allclose(got_losses, losses, atol=1e-5)
    for name, array in state.items():
        if "momentum1" in name and plan == "column_wise":
            continue  # stored by column shard
        np.testing.assert_allclose(got_state[name], array, atol=1e-5, rtol=1e-5, err_msg=name)
