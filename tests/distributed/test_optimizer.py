"""Learning-rate schedules, clipping, and errors for kernels that a device lacks."""

import math

import pytest
import torch

from interformer_rec.config import EmbeddingOptimizer, Schedule
from interformer_rec.distributed.optimizer import LearningRate, fused_params
from interformer_rec.errors import InputError
from tests.distributed.tiny import build, train
from tests.launch import on_one


def test_warm_up_then_constant():
    rate = LearningRate(Schedule(warmup_steps=4), 100, True)
    assert [rate.factor(step) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_cosine_ends_at_its_minimum():
    rate = LearningRate(Schedule(kind="cosine", warmup_steps=10, min_factor=0.1), 110, True)
    assert rate.factor(10) == 1.0
    assert rate.factor(109) == pytest.approx(0.1)
    assert rate.factor(10 + 49) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 49 / 99)))


@pytest.mark.parametrize(("higher", "values"), [(True, [0.7, 0.69, 0.68, 0.8]), (False, [0.3, 0.31, 0.32, 0.2])])
def test_plateau_falls_when_the_metric_stalls(higher, values):
    rate = LearningRate(Schedule(kind="plateau", factor=0.5, patience=1), 100, higher)
    factors = []
    for value in values:
        rate.observe(value)
        factors.append(rate.factor(50))
    assert factors == [1.0, 1.0, 0.5, 0.5]
    again = LearningRate(Schedule(kind="plateau", factor=0.5, patience=1), 100, higher)
    again.load_state_dict(rate.state_dict())
    again.observe(values[0])  # worse than the best, which it must remember
    again.observe(values[0])
    assert again.factor(50) == 0.25


def test_adam_on_cpu_is_an_error_that_names_the_others():
    with pytest.raises(InputError, match="use rowwise_adagrad, adagrad or sgd on CPU"):
        fused_params(EmbeddingOptimizer(kind="adam"), torch.device("cpu"))


def _rates(env, plan):
    parallel = build(env, plan, "sgd")
    parallel.optimizer.rate = LearningRate(Schedule(warmup_steps=10**6), 10**6, True)
    before = [shard.clone() for shard in _weights(parallel)]
    train(env, parallel, 0, 2)
    return max(float((a - b).abs().max()) for a, b in zip(before, _weights(parallel), strict=True))


def _weights(parallel):
    return [p.detach() for n, p in parallel.model.named_parameters() if "embedding" in n]


@pytest.mark.parametrize("plan", ["table_wise", "data_parallel"])
def test_the_schedule_reaches_the_fused_kernels(plan):
    assert 0 < on_one(_rates, plan) < 1e-5


def _clipped(env):
    parallel = build(env, kind="sgd")
    parallel.optimizer.clip_norm = 1e-3
    train(env, parallel, 0, 1)
    return float(torch.stack([p.grad.norm() for p in parallel.optimizer.dense_parameters]).norm())


def test_clipping_bounds_the_dense_gradient():
    assert on_one(_clipped) == pytest.approx(1e-3, rel=1e-3)
