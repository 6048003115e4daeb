"""Microbatches give the whole batch's loss, logits and gradients, of tables too; what they keep is a part's."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import TypeAdapter

from interformer_rec.config.baselines import AnyModelConfig
from interformer_rec.config.request import check_microbatches
from interformer_rec.data.fit import fit
from interformer_rec.model.task import build_task
from tests.data.request_samples import impressions, of_impressions, of_requests, requests
from tests.data.samples import loader_of
from tests.model.test_requests import doubled

MODELS = [
    {"d": 8, "embedding_dim": 8},
    {"d": 8, "embedding_dim": 8, "ensemble_members": 2},
    {"d": 8, "embedding_dim": 8, "split": True, "sequence": {"window": 1, "recompute": True}},
    {"kind": "din"},
    {"kind": "fm"},
]


@pytest.mark.parametrize("options", MODELS, ids=lambda options: "-".join(map(str, options.values())))
@pytest.mark.parametrize("count", [2, 5, 100])
def test_a_step_in_parts_is_the_step(options, count, tmp_path):
    """count 100: more parts than rows."""
    features = of_impressions()
    pq.write_table(impressions(requests(np.random.default_rng(3), 40), of_requests()), tmp_path / "rows.parquet")
    fitted = fit(features, str(tmp_path / "rows.parquet"))
    batch = next(iter(loader_of(str(tmp_path / "rows.parquet"), features, fitted, batch_size=23).batches()))[0]
    batch.dense, batch.labels, batch.weights = (one.double() for one in (batch.dense, batch.labels, batch.weights))
    results = []
    for parts in (1, count):
        torch.manual_seed(5)
        model = TypeAdapter(AnyModelConfig).validate_python(options)
        task = build_task(features, model, fitted.table_rows, l2=0.1, microbatches=parts, device=torch.device("cpu"))
        torch.manual_seed(6)
        for parameter in task.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        task.model.double()
        task.embeddings.register_forward_hook(lambda _, __, embedded: doubled(embedded))
        loss, logits = task.train()(batch)
        (2 * loss).backward()
        results.append((loss.detach(), logits, {name: one.grad for name, one in task.named_parameters()}))
    (loss, logits, gradients), (theirs, their_logits, their_gradients) = results
    torch.testing.assert_close(theirs, loss, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(their_logits, logits)
    assert set(gradients) == set(their_gradients)
    for name, gradient in gradients.items():
        near = 1e-10 if name.startswith("model.") else 1e-6  # tables are float32
        if gradient is None:
            assert their_gradients[name] is None, name
        else:
            torch.testing.assert_close(their_gradients[name], gradient, rtol=near, atol=near, msg=name)


def test_what_cannot_be_cut_is_refused():
    check_microbatches(1, 0.5, object())
    with pytest.raises(
        ValueError, match=r"microbatches 4 and training.pairwise_loss_weight 0.5: pairs of rows in different"
    ):
        check_microbatches(4, 0.5, None)
    with pytest.raises(ValueError, match=r"microbatches 4 and features.request: microbatches are cut from impressions"):
        check_microbatches(4, 0.0, object())


def test_the_dense_part_alone_runs_in_parts_too(tmp_path):
    """`interformer benchmark --what model` measures it."""
    features = of_impressions()
    pq.write_table(impressions(requests(np.random.default_rng(3), 40), of_requests()), tmp_path / "rows.parquet")
    fitted = fit(features, str(tmp_path / "rows.parquet"))
    batch = next(iter(loader_of(str(tmp_path / "rows.parquet"), features, fitted, batch_size=23).batches()))[0]
    model = TypeAdapter(AnyModelConfig).validate_python({"kind": "din"})
    task = build_task(features, model, fitted.table_rows, microbatches=4, device=torch.device("cpu")).train()
    sizes: list[int] = []
    task.model.register_forward_hook(lambda _, given, __: sizes.append(len(given[0])))
    loss, logits = task.dense_part(batch, task.embeddings(batch))
    assert len(sizes) == 4 and sum(sizes) == len(batch.labels) == len(logits)
    assert loss.requires_grad
