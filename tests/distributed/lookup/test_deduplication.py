"""Each distinct id once: the operator against a slow reference, and training with it against training without, on two real ranks."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from interformer_rec.checkpoint.touched_rows import TouchedRows
from interformer_rec.config import run as config
from interformer_rec.config.optimizer import EmbeddingOptimizer
from interformer_rec.config.run import RunConfig, ShardingConfig
from interformer_rec.data.fit import fit
from interformer_rec.data.recipes.catalog import prepare
from interformer_rec.distributed.lookup.deduplication import OPERATOR, enable_on_cpu, unique_ids
from interformer_rec.distributed.lookup.tables import local_shards, lookup_kernels
from interformer_rec.training.build import build_parallel, train_loader
from interformer_rec.training.pipeline import Pipeline
from tests.distributed.tiny import built, train, whole_state
from tests.launch import on_one, on_ranks

PLANS = ("table_wise", "row_wise", "column_wise")
KINDS = ("sgd", "rowwise_adagrad")


def case(tables: list[tuple[int, int]], batch: int, most: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Arguments of the operator for tables of (rows, features), `batch` rows of up to `most` ids a feature."""
    random = np.random.default_rng(seed)
    sizes, firsts, ids, lengths = [], [], [], []
    for rows, features in tables:
        sizes += [0] * (features - 1) + [rows]
        firsts += [features] + [0] * (features - 1)
        for _ in range(features):
            counts = random.integers(0, most + 1, batch)
            lengths += counts.tolist()
            ids += random.integers(0, rows, counts.sum()).tolist()
    cumsum, offsets, bounds = (torch.tensor([0, *itertools.accumulate(part)]) for part in (sizes, lengths, firsts))
    return cumsum, bounds, offsets, torch.tensor(ids, dtype=torch.int64)


@pytest.mark.parametrize(
    ("tables", "batch", "most"),
    [([(7, 1)], 5, 4), ([(7, 2), (5, 1), (100_000, 3)], 8, 6), ([(3, 2), (9, 2)], 3, 0), ([(2, 1), (50, 1)], 1, 30)],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_operator_against_a_loop(tables, batch, most, seed):
    cumsum, bounds, offsets, ids = case(tables, batch, most, seed)
    lengths, ends, unique, place = unique_ids(cumsum, bounds, offsets, ids)
    assert ends.tolist() == [0, *itertools.accumulate(lengths.tolist())] and len(unique) == int(ends[-1])
    assert len(lengths) == len(offsets) - 1
    torch.testing.assert_close(unique[place], ids)
    first = 0
    for _, features in tables:
        low, high = first * batch, (first + features) * batch
        of_table = ids[offsets[low] : offsets[high]].tolist()
        assert unique[ends[low] : ends[high]].tolist() == sorted(set(of_table))
        assert set(place[offsets[low] : offsets[high]].tolist()) == set(range(int(ends[low]), int(ends[high])))
        assert lengths[low:high].max() - lengths[low:high].min() <= 1
        first += features


def test_it_is_what_fbgemm_calls():
    enable_on_cpu()
    enable_on_cpu()  # once more does no harm
    arguments = case([(7, 2), (5, 1)], 4, 5, 3)
    name = OPERATOR.split("::")[1]
    for got, expected in zip(getattr(torch.ops.fbgemm, name)(*arguments), unique_ids(*arguments), strict=True):
        torch.testing.assert_close(got, expected)


def build(env, plan: str, kind: str, deduplicate: bool | None):
    sharding = ShardingConfig(default=plan, deduplicate=deduplicate)
    return built(env, sharding, EmbeddingOptimizer(kind=kind, lr=0.1))


def marked(touched: TouchedRows, parallel) -> dict:
    rows = {s.table: touched.rows(s.table, s.row, s.column) for s in local_shards(parallel.model)}
    return {table: found.tolist() for table, found in rows.items() if found is not None}


def both_ways(env):
    """(losses, state, ids looked up here, rows touched here) of every plan and optimizer, without and with."""
    found = {}
    for plan, kind, deduplicate in itertools.product(PLANS, KINDS, (False, True)):
        parallel = build(env, plan, kind, deduplicate)
        touched, looked_up = TouchedRows(parallel.model), []
        for kernel in lookup_kernels(parallel.model):
            if type(kernel).__name__ == "BatchedFusedEmbedding":  # the EmbeddingCollection's
                kernel.register_forward_pre_hook(lambda _, args, seen=looked_up: seen.append(args[0].values().numel()))
        losses = train(env, parallel, 0, 3)
        found[plan, kind, deduplicate] = losses, whole_state(env, parallel), sum(looked_up), marked(touched, parallel)
    found["default"] = is_on(env)
    return found


def is_on(env) -> bool:
    return build(env, "table_wise", "sgd", None).model.module.ec._use_index_dedup


@pytest.fixture(scope="module")
def results():
    return on_ranks(2, both_ways)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_train_alike_with_fewer_lookups(results, plan, kind):
    plain, ours = ([rank[plan, kind, deduplicate] for rank in results] for deduplicate in (False, True))
    np.testing.assert_allclose(ours[0][0], plain[0][0], atol=1e-6)
    for name, array in plain[0][1].items():
        np.testing.assert_allclose(ours[0][1][name], array, atol=1e-6, err_msg=name)
    assert 0 < sum(rank[2] for rank in ours) < sum(rank[2] for rank in plain)
    assert [rank[3] for rank in ours] == [rank[3] for rank in plain]  # what an incremental checkpoint saves


def test_it_is_on_where_there_is_something_to_send(results):
    assert [rank["default"] for rank in results] == [True, True]
    assert on_one(is_on) is False


def whole_models(env, plain: RunConfig, ours: RunConfig):
    return whole_model(env, plain), whole_model(env, ours)


def whole_model(env, settings: RunConfig):
    fitted = fit(settings.features, settings.data.train)
    parallel = build_parallel(settings, env, fitted)
    stream = itertools.islice(train_loader(settings, env, fitted).batches(), 3)
    losses = [float(step.loss) for step in Pipeline(parallel, env).run(stream, train=True)]
    dense = {n: p.detach().numpy().copy() for n, p in parallel.model.named_parameters() if "embedding" not in n}
    return losses, {**whole_state(env, parallel), **dense}


def test_the_whole_model_with_l2_and_empty_histories(tmp_path: Path):
    """The L2 term is a gradient of each looked-up vector: it has to count a row as often as samples read it."""
    options = {"rows": "400", "fields": "2", "groups": "2", "max_length": "12,6", "vocab": "30", "seed": "3"}
    prepare("synthetic", str(tmp_path), None, options)
    small = ["model.embedding_dim=8", "model.d=8", "model.layers=1", "model.head=[8]", "training.device=cpu"]
    small += ["data.batch_size=64", "data.shuffle_rows=0", "model.dropout=0", "optimizer.embedding.l2=0.1"]
    settings = [config.load(tmp_path / "config.yaml", [*small, f"sharding.deduplicate={on}"]) for on in ("no", "yes")]
    plain, ours = on_ranks(2, whole_models, *settings)[0]
    np.testing.assert_allclose(ours[0], plain[0], atol=1e-6)
    for name, array in plain[1].items():
        np.testing.assert_allclose(ours[1][name], array, atol=1e-6, err_msg=name)
