"""The dense part's cost where rows are candidates of requests, against the real task on batches of the loader."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from interformer_rec.config.run import RunConfig
from interformer_rec.data.fit import fit
from interformer_rec.model.task import build_task
from interformer_rec.planning.cost.dense import DenseCosts
from interformer_rec.planning.cost.lengths import Lengths
from interformer_rec.planning.cost.sizes import Sizes
from tests.data.request_samples import impressions, of_impressions, of_requests, requests
from tests.data.samples import loader_of

ROWS = 96
WHOLE = {"d": 8, "embedding_dim": 8, "layers": 2}
SPLIT = WHOLE | {"split": True}
MODELS = [SPLIT, SPLIT | {"ensemble_members": 2}, WHOLE, {"kind": "dcnv2", "embedding_dim": 8}]


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """(features, rows of tables, batches): the same candidates as requests and as impressions."""
    folder = tmp_path_factory.mktemp("requests")
    table = requests(np.random.default_rng(3), 200, most=8)
    found = {}
    for name, features in (("requests", of_requests()), ("impressions", of_impressions())):
        path = folder / f"{name}.parquet"
        pq.write_table(table if name == "requests" else impressions(table, of_requests()), path)
        fitted = fit(features, str(path))
        loader = loader_of(str(path), features, fitted, batch_size=ROWS)
        found[name] = features, fitted.table_rows, [batch for batch, _ in loader.batches() if batch.rows == ROWS]
    return found


def config_of(features, model) -> RunConfig:
    more = {
        "training": {"epochs": model.get("ensemble_members", 1)},
        "optimizer": {"embedding": {"kind": "adagrad"}},
    }
    return RunConfig.model_validate(
        {"name": "r", "data": {}, "features": features.model_dump(), "model": model, **more}
    )


def counted(sample, model) -> DenseCosts:
    """With the lengths of the sample's batches."""
    features, rows, batches = sample
    lengths: dict[str, list[np.ndarray]] = {}
    for batch in batches:
        for part in (batch.sparse, batch.sequences):
            of_keys = part.lengths().view(len(part.keys()), batch.rows)
            for key, found in zip(part.keys(), of_keys, strict=True):
                lengths.setdefault(key.split(".")[0], []).append(found.numpy())
    known = {name: Lengths.of(np.concatenate(found)) for name, found in lengths.items()}
    lists = {group.name for group in features.sequences} | {bag.name for bag in features.bags}
    costs = DenseCosts(config_of(features, model), Sizes(rows, {n: found for n, found in known.items() if n in lists}))
    costs._most = ROWS
    return costs


def measured_flops(sample, model) -> float:
    """Of the whole task's forward pass, mean of the batches: lookups multiply nothing."""
    features, rows, batches = sample
    config = config_of(features, model)
    task = build_task(features, config.model, rows, device=torch.device("cpu")).train().requires_grad_(False)
    flops = []
    for batch in batches:
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            task(batch)
        flops.append(counter.get_total_flops())
    return float(np.mean(flops))


@pytest.mark.parametrize("model", MODELS, ids=str)
@pytest.mark.parametrize("form", ["requests", "impressions"])
def test_flops_are_those_of_the_real_task(samples, form, model):
    """Requests are counted as if all had as many candidates; these have 0 to 8, whose blocks of one size are filled up (+25%)."""
    cost, measured = counted(samples[form], model).of(ROWS), measured_flops(samples[form], model)
    filled_up = form == "requests" and "split" in model
    assert sum(cost.forward_flops.values()) == pytest.approx(measured / 1.25 if filled_up else measured, rel=0.1)


def test_a_split_model_does_the_users_work_once_a_request(samples):
    once, each = (counted(samples[form], SPLIT) for form in ("requests", "impressions"))
    assert once.of(ROWS).flops < 0.7 * each.of(ROWS).flops
    assert once.of(ROWS).activation_bytes < 0.7 * each.of(ROWS).activation_bytes
    assert once.evaluation(4 * ROWS) < each.evaluation(4 * ROWS)


def test_a_model_that_knows_no_requests_works_on_rows_of_candidates(samples):
    ours, theirs = (counted(samples[form], WHOLE).of(ROWS) for form in ("requests", "impressions"))
    assert ours.flops == pytest.approx(theirs.flops, rel=0.15)
    assert ours.activation_bytes == pytest.approx(theirs.activation_bytes, rel=0.15)
    assert ours.looked_up < theirs.looked_up


def test_requests_are_as_many_as_have_a_history(samples):
    features, rows, _ = samples["requests"]
    names = [group.name for group in features.sequences]
    eight = Lengths(1.5, 0, 12, 12, 12, 7 / 8)
    costs = DenseCosts(config_of(features, SPLIT), Sizes(rows, dict.fromkeys(names, eight)))
    assert costs._requests(64) == 8 and costs._requests(1) == 1
    assert costs._request_of(64).tolist() == [row // 8 for row in range(64)]
    assert DenseCosts(config_of(features, SPLIT), Sizes(rows, {}))._requests(64) == 64
