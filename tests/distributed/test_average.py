"""The moving average of the dense weights: its arithmetic, its loan to the model, two ranks, and its way through checkpoints."""

import numpy as np
import pytest
import torch
from torch import nn

from interformer_rec.checkpoint.read import load
from interformer_rec.checkpoint.write import collect, write
from interformer_rec.distributed.average import DenseAverage
from interformer_rec.storage import Storage
from tests.distributed.tiny import build, train
from tests.launch import on_one, on_ranks

DECAY = 0.4  # reached after the fifth step: (1 + t) / (10 + t)


def _expected(weights):
    """The same in float64, one step at a time: weights[0] are those at the start."""
    average = weights[0].astype(np.float64)
    for t, weight in enumerate(weights[1:]):
        decay = min(DECAY, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * weight
    return average


def test_the_arithmetic_is_that_of_a_plain_loop_in_float64():
    generator = torch.Generator().manual_seed(1)
    parameters = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((3, 4), (5,), ())]
    average = DenseAverage(parameters, DECAY)
    seen = [[p.detach().numpy().copy()] for p in parameters]
    for _ in range(12):
        for parameter, weights in zip(parameters, seen, strict=True):
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
            weights.append(parameter.detach().numpy().copy())
        average.update()
    for parameter, weights in zip(parameters, seen, strict=True):
        np.testing.assert_allclose(average.tensors[parameter].numpy(), _expected(weights), atol=1e-6)
        assert average.tensors[parameter].requires_grad is False
    assert average.steps == 12


def test_what_was_lent_comes_back_bit_for_bit_even_after_an_error():
    parameter = nn.Parameter(torch.tensor([1.0, 2.0]))
    memory, average = parameter.data_ptr(), DenseAverage([parameter], DECAY)
    parameter.data.mul_(1 / 3)
    average.update()
    raw, mean = parameter.detach().clone(), average.tensors[parameter].clone()
    with pytest.raises(KeyError), average.lent():
        assert torch.equal(parameter, mean) and not torch.equal(parameter, raw)
        raise KeyError
    assert torch.equal(parameter, raw) and torch.equal(average.tensors[parameter], mean)
    assert parameter.data_ptr() == memory and parameter.requires_grad


def _dense(parallel):
    return [p.detach().numpy().copy() for p in parallel.optimizer.dense_parameters]


def _average(parallel):
    return [parallel.optimizer.average.tensors[p].numpy().copy() for p in parallel.optimizer.dense_parameters]


def _save(env, folder):
    """Eight steps with an average and without, saved; four more, in the same run and in one that loads."""
    plain, parallel = build(env), build(env, ema=DECAY)
    steps = [_dense(parallel)]
    for step in range(8):
        train(env, parallel, step, step + 1)
        steps.append(_dense(parallel))
    train(env, plain, 0, 8)
    write(Storage.open(folder / "with"), collect(parallel, env, {}), env)
    write(Storage.open(folder / "without"), collect(plain, env, {}), env)
    average = _average(parallel)
    with parallel.optimizer.averaged():
        lent = _dense(parallel)
    return {
        "average": average, "lent": lent, "steps": steps, "plain": _dense(plain), "plain next": train(env, plain, 8, 12),
        "next": train(env, parallel, 8, 12), "next average": _average(parallel),
        "loaded": _load(env, folder / "with", DECAY, False),
    }  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("averages")
    return folder, on_ranks(2, _save, folder)


def _equal(one, other):
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_two_ranks_hold_the_same_average_and_train_as_without_it(saved):
    one, other = saved[1]
    _equal(one["average"], other["average"])
    _equal(one["average"], one["lent"])
    _equal(one["steps"][-1], one["plain"])
    for number, average in enumerate(one["average"]):
        np.testing.assert_allclose(average, _expected([step[number] for step in one["steps"]]), atol=1e-6)
        assert np.abs(average - one["plain"][number]).max() > 1e-5


def _load(env, folder, ema, weights_only):
    parallel = build(env, ema=ema)
    train(env, parallel, 0, 1)  # loading must replace what is there
    load(Storage.open(folder), parallel, env, weights_only)
    average = _average(parallel) if ema else None
    keys = {key for state in parallel.optimizer.dense.state.values() for key in state}
    weights, losses = _dense(parallel), train(env, parallel, 8, 12)
    return {
        "weights": weights, "average": average, "keys": keys, "next": losses,
        "next average": _average(parallel) if ema else None,
    }  # fmt: skip


def test_a_run_goes_on_with_its_average_bit_for_bit(saved):
    for expected in saved[1]:
        found = expected["loaded"]
        _equal(found["weights"], expected["plain"])
        _equal(found["average"], expected["average"])
        assert found["next"] == expected["next"]
        _equal(found["next average"], expected["next average"])


def test_another_world_size_reads_the_same_average(saved):
    folder, (expected, _) = saved
    found = on_one(_load, folder / "with", DECAY, False)
    _equal(found["average"], expected["average"])
    for one, other in zip(found["next average"], expected["next average"], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_checkpoint_without_an_average_starts_one_at_its_weights(saved):
    folder, (expected, _) = saved
    found = on_one(_load, folder / "without", DECAY, False)
    _equal(found["weights"], expected["plain"])
    _equal(found["average"], expected["plain"])


def test_a_run_without_an_average_ignores_that_of_a_checkpoint(saved):
    folder, (expected, _) = saved
    found = on_one(_load, folder / "with", None, False)
    _equal(found["weights"], expected["plain"])
    assert found["keys"] == {"step", "exp_avg", "exp_avg_sq"}  # the average is no state of Adam
    np.testing.assert_allclose(found["next"], expected["plain next"], atol=1e-5)


@pytest.mark.parametrize("ema", [None, DECAY])
def test_weights_for_scoring_are_the_average(saved, ema):
    folder, (expected, _) = saved
    found = on_one(_load, folder / "with", ema, True)
    _equal(found["weights"], expected["average"])
    if ema is not None:  # an evaluation that borrows the average reads the same
        _equal(found["average"], expected["average"])
    _equal(on_one(_load, folder / "without", ema, True)["weights"], expected["plain"])
