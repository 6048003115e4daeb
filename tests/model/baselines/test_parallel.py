"""Every kind through TorchRec's pipeline on two real ranks: traced, sharded, averaged; a rank out of rows keeps up."""

from __future__ import annotations

import math

import numpy as np
import torch

from interformer_rec.config.optimizer import EmbeddingOptimizer, OptimizerConfig, Schedule
from interformer_rec.config.run import ShardingConfig
from interformer_rec.distributed.environment import Environment
from interformer_rec.distributed.lookup.tables import FirstWeights
from interformer_rec.distributed.optimizer import LearningRate
from interformer_rec.distributed.parallelize import parallelize
from interformer_rec.model.task import build_task
from interformer_rec.planning.torchrec_plan import torchrec_plan
from interformer_rec.training.pipeline import Pipeline
from tests.launch import on_ranks
from tests.model import cases
from tests.model.baselines import systems
from tests.model.test_task import make_batch, rows_of

FEATURES = cases.schema(groups=(("watch", 2),), ids=3)
STEPS = 3


def train(env: Environment, kind: str) -> tuple[list[float], dict[str, np.ndarray]]:
    """Losses of this rank and its dense weights; in the last step rank 1 has no rows."""
    torch.manual_seed(0)
    task = build_task(FEATURES, systems.options(kind), rows_of(FEATURES))
    sharding = ShardingConfig(default="table_wise")
    plan = torchrec_plan(task, env, batch_size=4, sharding=sharding)
    parallel = parallelize(
        task,
        env,
        plan=plan,
        sharding=sharding,
        optimizer=OptimizerConfig(embedding=EmbeddingOptimizer(lr=0.1)),
        rate=LearningRate(Schedule(), lambda: STEPS, True),
        first_weights=FirstWeights(0, dict.fromkeys(FEATURES.tables, 0.1)),
    )
    out_of_rows = [env.rank == 1 and step == STEPS - 1 for step in range(STEPS)]
    batches = [
        make_batch(1 if out else 4, seed=10 * env.rank + step, filler=out, features=FEATURES)
        for step, out in enumerate(out_of_rows)
    ]
    steps = list(Pipeline(parallel, env).run(iter([(batch, None) for batch in batches]), train=True))
    dense = {n: p.detach().numpy().copy() for n, p in parallel.model.named_parameters() if n.startswith("model.")}
    return [float(step.loss) for step in steps], dense


def train_all(env: Environment) -> dict[str, tuple[list[float], dict[str, np.ndarray]]]:
    return {kind: train(env, kind) for kind in systems.SMALL}


def test_two_ranks_hold_the_same_dense_weights_and_a_rank_may_run_out_of_rows() -> None:
    first, second = on_ranks(2, train_all)
    for kind, (losses, dense) in first.items():
        assert dense.keys() == second[kind][1].keys() and dense
        assert all(math.isfinite(loss) for loss in [*losses, *second[kind][0]]) and second[kind][0][-1] == 0
        for name, weight in dense.items():
            np.testing.assert_array_equal(weight, second[kind][1][name], err_msg=f"{kind}: {name}")
