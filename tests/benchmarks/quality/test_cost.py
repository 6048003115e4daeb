"""Costs: FLOPs that torch counts on real rows are those of the analytic count; weights are what they are by hand."""

from __future__ import annotations

import pytest
import torch

from benchmarks.model_flops import FlopCount
from benchmarks.quality.cost import ALONE, CPU, cost, counted, model_flops
from benchmarks.quality.sets import load_sets
from interformer_rec.config import run as run_config
from interformer_rec.data.fit import fit
from interformer_rec.model.task import build_task
from interformer_rec.training.build import eval_loader
from tests.benchmarks.ratings import write_ratings


@pytest.fixture(scope="module")
def ratings(tmp_path_factory):
    return write_ratings(tmp_path_factory.mktemp("ratings"))


def config_of(name, ratings, **settings):
    sets = load_sets()
    data = {
        "data.train": f"{ratings}/train.parquet",
        "data.valid": f"{ratings}/valid.parquet",
        "model.embedding_dim": 4,
    }
    return sets.system(name).config(sets.data["ml_100k"], {**data, **settings})


def test_flops_of_interformer_agree_with_the_analytic_count(ratings):
    config = config_of("interformer", ratings, **{"model.ensemble_members": 1})
    fitted = fit(config.features, config.data.train, 1)
    task = build_task(config.features, config.model, fitted.table_rows, device=CPU).eval()
    batch, _ = next(iter(eval_loader(config, config.data.valid, ALONE, fitted).batches()))
    with torch.no_grad():
        lengths = {name: events.lengths.numpy() for name, events in task.embeddings(batch).events.items()}
    expected = FlopCount(config.features, config.model, task.model).of(lengths).total / 3
    assert expected <= model_flops(task, batch) <= 1.1 * expected  # the rest is padding of buckets


def test_flops_of_encoder_layers_are_those_of_training(ratings):
    """In evaluation torch may run a whole encoder layer as one operator, whose products the counter does not see."""
    config = config_of("transact", ratings, **{"model.dropout": 0})
    fitted = fit(config.features, config.data.train, 1)
    task = build_task(config.features, config.model, fitted.table_rows, device=CPU)
    batch, _ = next(iter(eval_loader(config, config.data.valid, ALONE, fitted).batches()))
    assert model_flops(task.eval(), batch) == model_flops(task.train(), batch) > 0
    assert torch.backends.mha.get_fastpath_enabled()


def test_cost_of_dlrm_by_hand(ratings, tmp_path):
    hidden = {"model.hidden": [8], "training.out": str(tmp_path / "run")}
    config = config_of("dlrm", ratings, **hidden)
    fit(config.features, config.data.train, 1).save(tmp_path / "run/features")
    assert counted(config) is None
    found = cost(run_config.to_yaml(config))
    fields = 5 + 1 + 3  # ids, a bag, the history's columns: no dense columns, so no bottom MLP
    pairs = fields * (fields - 1) // 2
    assert found["flops"] == 2 * (fields * fields * 4 + pairs * 8 + 8)  # all inner products, then 36-8-1
    rows = 20 + 1 + 5 + 30 + 2 + 1 + 5  # distinct ids: item, genre, rating, age, gender, occupation, year
    assert rows * 4 <= found["table_parameters"] <= (rows + 7 * 4) * 4
    assert counted(config) == found


def test_every_flow_is_counted(ratings, tmp_path):
    """Also where a learned token, and no activation, is what a module reads; fields that read no S_sum cost less."""
    flops = {}
    for flow in ("int", "n2s", "s2n", "sep", "sole"):
        config = config_of("interformer", ratings, **{"model.flow": flow, "training.out": str(tmp_path / flow)})
        fit(config.features, config.data.train, 1).save(tmp_path / flow / "features")
        flops[flow] = cost(run_config.to_yaml(config))["flops"]
    assert 0 < flops["sole"] < flops["n2s"] == flops["sep"] < flops["s2n"] == flops["int"]
