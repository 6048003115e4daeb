"""Rows that are requests give what the same rows as impressions give: logits, loss, gradients, whatever the model."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import TypeAdapter

from interformer_rec.config.baselines import AnyModelConfig
from interformer_rec.config.features import FeatureSchema
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


def both_forms(folder, table, schemas, batch_size):
    """The same candidates, in the same order: as requests, and as impressions."""
    pq.write_table(table, folder / "requests.parquet", row_group_size=9)
    pq.write_table(impressions(table, of_requests()), folder / "impressions.parquet", row_group_size=17)
    found = []
    for name, features in zip(("requests", "impressions"), schemas, strict=True):
        fitted = fit(features, str(folder / f"{name}.parquet"))
        # the last bits of moments depend on the order in which rows are added up
        same = replace(fitted, moments=found[0][1].moments) if found else fitted
        loader = loader_of(str(folder / f"{name}.parquet"), features, same, batch_size=batch_size)
        found.append((features, fitted, [batch for batch, _ in loader.batches()]))
    return found


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    table = requests(np.random.default_rng(3), 40)
    return both_forms(tmp_path_factory.mktemp("requests"), table, (of_requests(), of_impressions()), 23)


def short(features):
    """With the first column of each history alone."""
    tree = features.model_dump()
    return FeatureSchema.model_validate(
        {**tree, "sequences": [{**one, "columns": one["columns"][:1]} for one in tree["sequences"]]}
    )


@pytest.fixture(scope="module")
def sizes(tmp_path_factory):
    """Requests of 0 to 1,000 candidates, more than a batch; histories of equal columns, which every merge can read."""
    random = np.random.default_rng(4)
    counts = np.r_[0, 1, 1000, random.integers(0, 200, 4), 0, 2]
    table = requests(random, len(counts), counts=random.permutation(counts))
    return both_forms(tmp_path_factory.mktemp("sizes"), table, [short(of_requests()), short(of_impressions())], 600)


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


def task_of(features, fitted, options, double=True):
    torch.manual_seed(5)
    model = TypeAdapter(AnyModelConfig).validate_python(options)
    task = build_task(features, model, fitted.table_rows, l2=0.1, pairwise_weight=0.5, device=torch.device("cpu"))
    torch.manual_seed(6)
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    if not double:
        return task
    task.model.double()
    task.embeddings.register_forward_hook(
        lambda _, __, embedded: doubled(embedded)
    )  # TorchRec's collections give float32
    return task


def doubled(embedded: Embedded) -> Embedded:
    """The dense part then works in float64."""
    events = {name: replace(one, values=one.values.double()) for name, one in embedded.events.items()}
    return Embedded({dim: values.double() for dim, values in embedded.fields.items()}, events)


def results_of(features, fitted, found, options, double=True):
    """Logits of all batches, their losses, and the gradients of all parameters."""
    task = task_of(features, fitted, options, double)
    task.train()
    logits, losses = [], []
    for batch in found:
        if double:
            batch = replace(
                batch, dense=batch.dense.double(), labels=batch.labels.double(), weights=batch.weights.double()
            )
        loss, shown = task(batch)
        loss.backward()
        losses.append(loss.item())
        logits.append(shown)
    return torch.cat(logits), losses, {name: parameter.grad for name, parameter in task.named_parameters()}


def assert_alike(mine, others, near: float, of_tables: float) -> None:
    """`near`: of the dense part; of_tables: of what is float32 in any case."""
    (logits, losses, gradients), (their_logits, their_losses, their_gradients) = mine, others
    torch.testing.assert_close(logits, their_logits, rtol=1e-5, atol=1e-5)  # shown in float32
    assert losses == pytest.approx(their_losses, rel=near)
    for name, gradient in their_gradients.items():
        if gradient is None:
            assert gradients[name] is None, name
        else:
            close = near if name.startswith("model.") else of_tables
            most = close * max(1.0, gradient.abs().max().item())
            torch.testing.assert_close(gradients[name], gradient, rtol=close, atol=most, msg=f"gradient of {name}")


@pytest.mark.parametrize("options", MODEL, ids=lambda options: "-".join(map(str, options.values())))
def test_logits_loss_and_gradients_are_those_of_impressions(batches, options):
    mine, others = (results_of(*one, options) for one in batches)
    assert_alike(mine, others, 1e-9, 1e-6)


MERGES, FLOWS = ("masknet", "separate", "concat", "union"), ("int", "n2s", "s2n", "sep", "sole")
INTERACTIONS = (
    {"kind": "dhen", "parts": ["dcn", "wukong", "dot"], "merge": "concat"},
    {"kind": "dcn"},
    {"kind": "dot"},
    {"kind": "wukong"},
)


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("merge", MERGES)
def test_so_they_are_for_0_to_1000_candidates_whatever_merge_flow_and_interaction(sizes, merge, flow):
    """Each pair of the three. With a split, where the flow has one: the user's side once a request, the candidates in blocks."""
    interaction = INTERACTIONS[(MERGES.index(merge) + FLOWS.index(flow)) % len(INTERACTIONS)]
    options = {"split": flow in ("int", "n2s"), "d": 8, "embedding_dim": 8, "layers": 2, "flow": flow}
    options |= {"sequence": {"merge": merge}, "interaction": interaction}
    precisions = [(True, 1e-9)]
    if MERGES.index(merge) == FLOWS.index(flow) % len(MERGES):  # every merge and every flow once in float32, too
        precisions += [(False, 1e-5)]
    for double, near in precisions:
        mine, others = (results_of(*one, options, double) for one in sizes)
        assert_alike(mine, others, near, 1e-5)  # a user's rows get a thousand summands of float32


def test_requests_of_0_to_1000_candidates_are_cut_by_batches(sizes):
    (_, _, ours), (_, _, theirs) = sizes
    assert [batch.rows for batch in ours] == [batch.rows for batch in theirs] and len(ours) >= 3
    numbers = [set(batch.request_numbers.tolist()) for batch in ours]
    assert any(one & other for one, other in itertools.pairwise(numbers))
    assert max(int(batch.request_of.bincount().max()) for batch in ours) > 500
