"""Learning-rate schedules, clipping, and errors for kernels that a device lacks."""

import math

import pytest
import torch
from fbgemm_gpu.split_table_batched_embeddings_ops_training import SplitTableBatchedEmbeddingBagsCodegen
from torch import nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig
from torchrec.modules.embedding_modules import EmbeddingBagCollection

from interformer_rec.checkpoint.read import load
from interformer_rec.checkpoint.write import collect, write
from interformer_rec.config.optimizer import DenseOptimizer, EmbeddingOptimizer, OptimizerConfig, Schedule
from interformer_rec.config.run import ShardingConfig
from interformer_rec.distributed.lookup.tables import FirstWeights, lookup_kernels
from interformer_rec.distributed.optimizer import LearningRate, RunOptimizer, fused_params
from interformer_rec.distributed.parallelize import parallelize
from interformer_rec.distributed.state import local_state
from interformer_rec.errors import InputError
from interformer_rec.planning.torchrec_plan import torchrec_plan
from interformer_rec.storage import Storage
from tests.distributed.tiny import DIM, META, build, train
from tests.launch import on_one, on_ranks


def test_warm_up_then_constant():
    rate = LearningRate(Schedule(warmup_steps=4), lambda: 100, True)
    assert [rate.factor(step) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_cosine_ends_at_its_minimum():
    rate = LearningRate(Schedule(kind="cosine", warmup_steps=10, min_factor=0.1), lambda: 110, True)
    assert rate.factor(10) == 1.0
    assert rate.factor(109) == pytest.approx(0.1)
    assert rate.factor(10 + 49) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 49 / 99)))


@pytest.mark.parametrize(("higher", "values"), [(True, [0.7, 0.69, 0.68, 0.8]), (False, [0.3, 0.31, 0.32, 0.2])])
def test_plateau_falls_when_the_metric_stalls(higher, values):
    rate = LearningRate(Schedule(kind="plateau", factor=0.5, patience=1), lambda: 100, higher)
    factors = []
    for value in values:
        rate.observe(value)
        factors.append(rate.factor(50))
    assert factors == [1.0, 1.0, 0.5, 0.5]
    again = LearningRate(Schedule(kind="plateau", factor=0.5, patience=1), lambda: 100, higher)
    again.load_state_dict(rate.state_dict())
    again.observe(values[0])  # worse than the best, which it must remember
    again.observe(values[0])
    assert again.factor(50) == 0.25


def test_adam_on_cpu_is_an_error_that_names_the_others():
    with pytest.raises(InputError, match="use rowwise_adagrad, adagrad or sgd on CPU"):
        fused_params(EmbeddingOptimizer(kind="adam"), torch.device("cpu"))


def _rates(env, plan):
    parallel = build(env, plan, "sgd")
    parallel.optimizer.rate = LearningRate(Schedule(warmup_steps=10**6), lambda: 10**6, True)
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


class Pooled(nn.Module):
    """One table, pooled: the kind that can be data-parallel, where Adam exists on a CPU."""

    def __init__(self):
        super().__init__()
        table = EmbeddingBagConfig(name="bag_a", embedding_dim=DIM, num_embeddings=11, feature_names=["bag_a"])
        self.ebc = EmbeddingBagCollection(tables=[table], device=META)
        self.out = nn.Linear(DIM, 1)

    def forward(self, sparse, sequences):
        return self.out(self.ebc(sparse).values()[:, :DIM])


def _adam_continues(env, folder):
    """Twelve steps in one go, and with a checkpoint after six."""

    def make():
        torch.manual_seed(5)
        model, sharding = Pooled(), ShardingConfig(default="data_parallel")
        plan = torchrec_plan(model, env, batch_size=8, sharding=sharding)
        parallel = parallelize(
            model,
            env,
            plan=plan,
            sharding=sharding,
            optimizer=OptimizerConfig(embedding=EmbeddingOptimizer(kind="sgd", lr=0.1)),
            rate=LearningRate(Schedule(), lambda: 100, True),
            first_weights=FirstWeights(5, {"bag_a": 0.5}),
        )
        # Past fused_params, which refuses Adam on a CPU: its kernel is missing, and not needed here.
        adam = EmbeddingOptimizer(kind="adam", lr=0.1)
        parallel.optimizer = RunOptimizer(parallel.model, DenseOptimizer(), adam, parallel.optimizer.rate)
        return parallel

    whole = make()
    expected = train(env, whole, 0, 12)
    first = make()
    losses = train(env, first, 0, 6)
    write(Storage.open(folder), collect(first, env, {}), env)
    second = make()
    load(Storage.open(folder), second, env)
    keys = {name for _, parts in local_state(second) for name in parts}
    return expected, losses + train(env, second, 6, 12), keys


def test_adam_of_data_parallel_tables_continues_bit_for_bit(tmp_path):
    for expected, found, keys in on_ranks(2, _adam_continues, str(tmp_path / "step")):
        assert found == expected and keys == {"weight", "momentum1", "exp_avg_sq"}


def test_the_fused_optimizers_learn_the_step():
    """FBGEMM's own counter, which Adam's bias correction uses, follows `set_step`."""

    def count(env):
        parallel = build(env, "table_wise")
        parallel.optimizer.set_step(7)
        kernels = [k for k in lookup_kernels(parallel.model) if isinstance(k, SplitTableBatchedEmbeddingBagsCodegen)]
        return parallel.optimizer.step_count, [int(kernel.iter[0]) for kernel in kernels]

    steps, kernels = on_one(count)
    assert steps == 7 and kernels and set(kernels) == {7}
