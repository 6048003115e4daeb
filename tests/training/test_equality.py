"""The whole model on one and on two ranks: the same global batches give the same losses and the same weights."""

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch.distributed as dist

from interformer_rec.config import run as config
from interformer_rec.data.fit import fit
from interformer_rec.training.build import build_parallel
from interformer_rec.training.pipeline import Pipeline
from tests.data import request_samples
from tests.data.samples import loader_of
from tests.distributed.tiny import whole_state
from tests.launch import on_one, on_ranks
from tests.training.runs import SMALL

STEPS, GLOBAL = 30, 64
EXACT_PLANS = ("table_wise", "row_wise", "data_parallel")
# with a small eps Adam makes whole steps of gradients that are nothing but rounding
OVERRIDES = (
    "model.embedding_dim=32",
    "optimizer.embedding.l2=0.01",
    "optimizer.dense.clip_norm=1.0",
    "optimizer.dense.eps=1e-4",
)


def batches(settings, fitted, env):
    """This rank's share of every global batch: rows are read in file order in pieces of GLOBAL / world size."""
    share = GLOBAL // env.world_size
    loader = loader_of(settings.data.train, settings.features, fitted, batch_size=share)
    for number, (batch, cursor) in enumerate(loader.batches(0)):
        if number >= STEPS // 3 * env.world_size:
            return
        if number % env.world_size == env.rank:
            yield dataclasses.replace(batch, loss_rows=float(share)), cursor


def train(env, settings):
    fitted = fit(settings.features, settings.data.train)
    parallel = build_parallel(settings, env, fitted)
    first = whole_state(env, parallel)
    pipeline = Pipeline(parallel, env)
    losses = []
    while len(losses) < STEPS:
        for step in pipeline.run(batches(settings, fitted, env), train=True):
            total = step.loss.clone()
            dist.all_reduce(total)
            losses.append(float(total) / env.world_size)
    dense = {n: p.detach().numpy().copy() for n, p in parallel.model.named_parameters() if "embedding" not in n}
    return first, losses[:STEPS], whole_state(env, parallel), dense, {one.sharding for one in parallel.plan}


@pytest.fixture(scope="module")
def one(synthetic, tmp_path_factory):
    """What one rank comes to, whose plan does not matter."""
    out = tmp_path_factory.mktemp("one") / "run"
    return on_one(train, config.load(synthetic / "config.yaml", [*SMALL, *OVERRIDES, f"training.out={out}"]))


@pytest.mark.parametrize(
    "plan, microbatches",
    [
        *(pytest.param(plan, 1, marks=[pytest.mark.slow] if plan == "row_wise" else []) for plan in EXACT_PLANS),
        ("row_wise", 3),
    ],
)
def test_two_ranks_train_as_one(one, small, plan, microbatches):
    settings = small(f"sharding.default={plan}", f"training.microbatches={microbatches}", *OVERRIDES)
    two = on_ranks(2, train, settings)[0]
    assert plan in two[4]
    for name, array in one[0].items():
        np.testing.assert_array_equal(two[0][name], array, err_msg=f"first {name}")
    np.testing.assert_allclose(two[1], one[1], atol=1e-5)
    for part in (2, 3):
        for name, array in one[part].items():
            np.testing.assert_allclose(two[part][name], array, atol=1e-5, err_msg=name)
    assert one[1][-1] < one[1][0]


def test_requests_on_two_ranks_train_as_impressions_on_one(tmp_path):
    """Batches and ranks divide requests, some of them larger than a batch."""
    random = np.random.default_rng(8)
    counts = random.permutation(np.r_[random.integers(0, 6, 150), 0, 40, 90, 170])
    table = request_samples.requests(random, len(counts), counts=counts)
    schemas = {"requests": request_samples.of_requests(), "impressions": request_samples.of_impressions()}
    pq.write_table(table, tmp_path / "requests.parquet", row_group_size=40)
    pq.write_table(request_samples.impressions(table, schemas["requests"]), tmp_path / "impressions.parquet")
    found = {}
    for form, features in schemas.items():
        tree = {
            "name": form,
            "data": {"train": str(tmp_path / f"{form}.parquet")},
            "features": features.model_dump(mode="json", exclude_defaults=True),
            "model": {"split": True, "d": 8, "embedding_dim": 32, "layers": 2, "dropout": 0.0},
            "sharding": {"default": "row_wise"},
            "optimizer": {"embedding": {"l2": 0.01}, "dense": {"clip_norm": 1.0, "eps": 1e-4}},
            "training": {"out": str(tmp_path / "run"), "device": "cpu"},
        }
        found[form] = config.parse(tree, form)
    one, two = on_one(train, found["impressions"]), on_ranks(2, train, found["requests"])[0]
    np.testing.assert_allclose(two[1], one[1], atol=1e-5)
    for part in (2, 3):
        for name, array in one[part].items():
            np.testing.assert_allclose(two[part][name], array, atol=1e-5, err_msg=name)
    first, last = np.mean(one[1][:10]), np.mean(one[1][-10:])  # the same ten batches
    assert last < first
