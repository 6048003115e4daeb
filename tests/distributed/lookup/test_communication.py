"""Vectors and gradients that travel in 16 bits: rounded as asked, not flushed to zero, and good enough to train with; two real ranks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from interformer_rec.config.optimizer import EmbeddingOptimizer
from interformer_rec.config.run import ShardingConfig
from interformer_rec.distributed.lookup.communication import codecs
from tests.distributed.tiny import ROWS, built, train, whole_state
from tests.launch import on_one, on_ranks

TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
PLANS = ("table_wise", "row_wise")
READ = 9  # rows of every table
TINY = 1e-9  # zero in fp16
LONG = 1 + 2.0**-12  # one in both 16-bit types


def build(env, precision: str, plan: str = "table_wise", lr: float = 0.1):
    sharding = ShardingConfig(default=plan, communication=precision)
    return built(env, sharding, EmbeddingOptimizer(kind="sgd", lr=lr))


def step(env, precision: str, plan: str, gradient: float, lr: float):
    """Rows of all tables as this rank receives them, their weights, and how far a step with this gradient moves them."""
    parallel = build(env, precision, plan, lr)
    before = whole_state(env, parallel)
    ids, offsets = torch.arange(READ).repeat(2), torch.arange(2 * READ + 1, dtype=torch.int32)
    module = parallel.model.module
    vectors = module.ebc(KeyedJaggedTensor.from_offsets_sync(["bag_a", "bag_b"], ids, offsets)).to_dict()
    events = module.ec(KeyedJaggedTensor.from_offsets_sync(["seq_a", "seq_b"], ids, offsets))
    vectors |= {key: events[key].values() for key in ("seq_a", "seq_b")}
    sum((gradient * part).sum() for part in vectors.values()).backward()
    after = whole_state(env, parallel)
    weights = {table: before[f"{table}/weight"][:READ] for table in ROWS}
    moved = {table: weights[table] - after[f"{table}/weight"][:READ] for table in ROWS}
    return {table: part.detach().numpy().copy() for table, part in vectors.items()}, weights, moved


def everything(env):
    """One start of two ranks for all cases."""
    steps = {(precision, plan): step(env, precision, plan, LONG, 1.0) for precision in TYPES for plan in PLANS}
    small = {precision: step(env, precision, "table_wise", TINY, 1 / TINY)[2] for precision in TYPES}
    return steps, small, {precision: losses(env, precision) for precision in TYPES}


def losses(env, precision: str):
    return train(env, build(env, precision), 0, 50)


@pytest.fixture(scope="module")
def ranks():
    return on_ranks(2, everything)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("precision", TYPES)
def test_vectors_are_rounded_once_and_gradients_arrive(ranks, precision, plan):
    for steps, _, _ in ranks:
        vectors, weights, moved = steps[precision, plan]
        for table in ROWS:
            rounded = torch.from_numpy(weights[table]).to(TYPES[precision]).float().numpy()
            np.testing.assert_array_equal(vectors[table], rounded, err_msg=table)
            # Both ranks send the same gradient, so its mean is the step.
            np.testing.assert_allclose(moved[table], LONG if precision == "fp32" else 1.0, atol=1e-6, err_msg=table)


@pytest.mark.parametrize("precision", TYPES)
def test_small_gradients_do_not_become_zero(ranks, precision):
    for _, small, _ in ranks:
        for table in ROWS:
            np.testing.assert_allclose(small[precision][table], 1.0, rtol=0.01, err_msg=table)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_training_goes_the_same_way(ranks, precision):
    exact, ours = ranks[0][2]["fp32"], ranks[0][2][precision]
    assert exact != ours
    np.testing.assert_allclose(ours, exact, atol=0.01)
    assert min(exact) < 0.8 * exact[0]


def test_one_rank_exchanges_nothing():
    assert on_one(losses, "fp32") == on_one(losses, "bf16")
    assert codecs("fp32") is None
