"""Rows that are requests give what the same rows as impressions give: logits, loss, gradients, whatever the model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import TypeAdapter

from interformer_rec.config.baselines import AnyModelConfig
from interformer_rec.data.fit import fit
from interformer_rec.model.build import MODELS
from interformer_rec.model.embedding.embedded import Embedded
from interformer_rec.model.task import build_task
from tests.data.request_samples import impressions, of_impressions, of_requests, requests
from tests.data.samples import loader_of

OURS = [
    {"split": True},
    {"split": True, "ensemble_members": 2},
    {"split": True, "flow": "n2s"},
    {"split": True, "sequence": {"merge": "separate"}, "layers": 1},
    {"split": True, "interaction": {"kind": "wukong"}},
    {"split": False},
    {"split": False, "flow": "sole"},
]
MODEL = [
    *({"kind": kind} for kind in MODELS if kind != "interformer"),
    *({"d": 8, "embedding_dim": 8, **one} for one in OURS),
]


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    """The same candidates, in the same order: as requests, and as impressions."""
    folder = tmp_path_factory.mktemp("requests")
    table = requests(np.random.default_rng(3), 40)
    pq.write_table(table, folder / "requests.parquet", row_group_size=9)
    pq.write_table(impressions(table, of_requests()), folder / "impressions.parquet", row_group_size=17)
    found = []
    for name, features in (("requests", of_requests()), ("impressions", of_impressions())):
        fitted = fit(features, str(folder / f"{name}.parquet"))
        # the last bits of moments depend on the order in which rows are added up
        same = replace(fitted, moments=found[0][1].moments) if found else fitted
        loader = loader_of(str(folder / f"{name}.parquet"), features, same, batch_size=23)
        found.append((features, fitted, [batch for batch, _ in loader.batches()]))
    return found


def test_the_same_is_fitted(batches):
    (_, ours, _), (_, theirs, _) = batches
    assert ours.table_rows == theirs.table_rows
    assert {name: ids.to_pylist() for name, ids in ours.vocabularies.items()} == {
        name: ids.to_pylist() for name, ids in theirs.vocabularies.items()
    }
    assert all(np.array_equal(ours.counts[name], theirs.counts[name]) for name in theirs.counts)
    for name, moments in theirs.moments.items():
        assert ours.moments[name] == pytest.approx(moments)


def test_batches_have_the_same_candidates_and_each_request_once(batches):
    (_, _, ours), (_, _, theirs) = batches
    assert len(ours) == len(theirs) > 3
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.rows == other.rows and torch.equal(mine.labels, other.labels)
        assert torch.equal(mine.weights, other.weights) and torch.equal(mine.groups, other.groups)
        of = mine.request_of
        assert of.shape == (mine.rows,) and of[0] == 0 and mine.requests == int(of[-1]) + 1 < mine.rows
        assert set(of.diff().tolist()) <= {0, 1}
        events = mine.sequences.lengths().view(len(mine.sequences.keys()), -1)
        of_user = [at for at, key in enumerate(mine.sequences.keys()) if "." in key]
        assert not events[of_user, mine.requests :].any() and events[of_user].any()


def task_of(features, fitted, options):
    torch.manual_seed(5)
    model = TypeAdapter(AnyModelConfig).validate_python(options)
    task = build_task(features, model, fitted.table_rows, l2=0.1, pairwise_weight=0.5, device=torch.device("cpu"))
    torch.manual_seed(6)
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    task.model.double()
    task.embeddings.register_forward_hook(
        lambda _, __, embedded: doubled(embedded)
    )  # TorchRec's collections give float32
    return task


def doubled(embedded: Embedded) -> Embedded:
    """The dense part then works in float64."""
    events = {name: replace(one, values=one.values.double()) for name, one in embedded.events.items()}
    return Embedded({dim: values.double() for dim, values in embedded.fields.items()}, events)


@pytest.mark.parametrize("options", MODEL, ids=lambda options: "-".join(map(str, options.values())))
def test_logits_loss_and_gradients_are_those_of_impressions(batches, options):
    results = []
    for features, fitted, found in batches:
        task = task_of(features, fitted, options)
        task.train()
        logits, losses = [], []
        for batch in found:
            batch.dense, batch.labels, batch.weights = (
                part.double() for part in (batch.dense, batch.labels, batch.weights)
            )
            loss, shown = task(batch)
            loss.backward()
            losses.append(loss.item())
            logits.append(shown)
        gradients = {name: parameter.grad for name, parameter in task.named_parameters()}
        results.append((torch.cat(logits), losses, gradients))
    (logits, losses, gradients), (their_logits, their_losses, their_gradients) = results
    torch.testing.assert_close(logits, their_logits, rtol=1e-5, atol=1e-5)  # shown in float32
    assert losses == pytest.approx(their_losses, rel=1e-9)
    for name, gradient in their_gradients.items():
        if gradient is None:
            assert gradients[name] is None, name
        else:
            near = 1e-9 if name.startswith("model.") else 1e-6  # tables are float32
            most = near * max(1.0, gradient.abs().max().item())
            torch.testing.assert_close(gradients[name], gradient, rtol=near, atol=most, msg=f"gradient of {name}")
