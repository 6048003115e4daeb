"""Mapped tables, the lookup before the graphs and the scorer, against the task that is trained: the same logits from the same Batch."""

import dataclasses

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from benchmarks.serving.whole_tables import WholeTables
from interformer_rec.checkpoint import tensor_file
from interformer_rec.config.baselines import AnyModelConfig
from interformer_rec.errors import DamagedError, InputError
from interformer_rec.model.task import build_task
from interformer_rec.ops import glue
from interformer_rec.serving.artefact import tables_of
from interformer_rec.serving.contents import StoredTable
from interformer_rec.serving.halves import halves
from interformer_rec.serving.rectangle import reads_of, union
from interformer_rec.serving.request import NO_ROW, Inputs, Rows
from interformer_rec.serving.rows_of_batch import inputs_of, part_of
from interformer_rec.serving.runtimes import eager_graph
from interformer_rec.serving.scorer import Scorer, probabilities
from interformer_rec.serving.tables import MappedTable, TableFile
from interformer_rec.serving.write import parts_of, write_tables
from interformer_rec.storage import Storage
from tests.model.cases import schema
from tests.model.test_task import make_batch, rows_of

OPTIONS = {
    "concat": {},
    "union": {"sequence": {"merge": "union"}},
    "masknet": {"sequence": {"merge": "masknet"}},
    "split": {"split": True},
    "split, two sets, union": {"split": True, "ensemble_members": 2, "sequence": {"merge": "union"}},
    "din": {"kind": "din"},
    "dien": {"kind": "dien"},
    "fm": {"kind": "fm"},
}


def made(folder, options, form="fp32", candidate=("item", "f1", "tags", "x1")):
    """(task, scorer, batch, features)."""
    groups = (("watch", 2), ("like", 2)) if "union" in str(options) else (("watch", 2), ("like", 1))
    features = schema(groups, labels=2).model_copy(update={"candidate": candidate})
    small = {"embedding_dim": 8} if "kind" in options else {"embedding_dim": 8, "d": 8, "head": [16]}
    model = TypeAdapter(AnyModelConfig).validate_python({**small, **options})
    torch.manual_seed(0)
    task = build_task(features, model, rows_of(features), device=torch.device("cpu")).eval()
    weights = {key.split(".")[-2]: weight for key, weight in task.embeddings.state_dict().items()}
    tables = tables_of(folder, write_tables(folder, WholeTables(weights), form))
    reads = reads_of(features, model)
    graphs = [eager_graph(half) for half in halves(task.model.eval(), reads)]
    return task, Scorer(features, reads, tables, graphs), make_batch(7, features=features), features


def expected(task, batch):
    with torch.no_grad():
        return task(batch)[1].numpy()


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("candidate", [(), ("item", "f1", "tags", "x1")])
def test_logits_are_those_of_the_task(tmp_path, name, candidate):
    if "split" in name and not candidate:
        return
    task, scorer, batch, features = made(tmp_path, OPTIONS[name], candidate=candidate)
    inputs = inputs_of(batch, features)
    np.testing.assert_allclose(scorer(inputs), expected(task, batch), rtol=0, atol=1e-5)
    apart = [scorer(part_of(inputs, start, start + 3)) for start in (0, 3, 6)]
    np.testing.assert_allclose(np.concatenate(apart), expected(task, batch), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["split", "concat"])
def test_one_users_candidates_read_its_features(tmp_path, name):
    task, scorer, batch, features = made(tmp_path, OPTIONS[name])
    inputs = inputs_of(batch, features)
    owners = np.array([2, 2, 0, 6, 2, 0, 1])
    found = scorer(dataclasses.replace(inputs, owners=owners))
    alone = [
        scorer(dataclasses.replace(part_of(inputs, c, c + 1), users=part_of(inputs, owner, owner + 1).users))[0]
        for c, owner in enumerate(owners)
    ]
    np.testing.assert_allclose(found, np.stack(alone), rtol=0, atol=1e-5)
    assert np.abs(found - expected(task, batch)).max() > 1e-3  # other users than the rows' own


def test_a_users_state_may_be_kept(tmp_path):
    task, scorer, batch, features = made(tmp_path, OPTIONS["split"])
    inputs = inputs_of(batch, features)
    states = np.concatenate([scorer.states(part_of(inputs, at, at + 1).users) for at in range(7)])
    found = scorer.logits(inputs.candidates, inputs.owners, states=states)
    np.testing.assert_allclose(found, expected(task, batch), rtol=0, atol=1e-5)
    with pytest.raises(InputError, match="owners must name one of 7 users"):
        scorer.logits(inputs.candidates, inputs.owners + 1, states=states)


@pytest.mark.parametrize("name", ["split", "concat"])
def test_logits_are_recalibrated_once(tmp_path, name):
    task, scorer, batch, features = made(tmp_path, OPTIONS[name])
    lines = np.array([[0.5, 2.0], [-1.0, 3.0]], np.float32)
    mended = Scorer(features, scorer._reads, scorer.tables, scorer.graphs, lines)
    inputs = inputs_of(batch, features)
    for one in (mended, mended.renewed({}, scorer.graphs)):
        np.testing.assert_allclose(one(inputs), expected(task, batch) * lines[0] + lines[1], rtol=0, atol=1e-5)


def test_a_model_without_split_has_no_states(tmp_path):
    _, scorer, batch, features = made(tmp_path, {})
    with pytest.raises(InputError, match="no user states"):
        scorer.states(inputs_of(batch, features).users)


@pytest.mark.parametrize("form, bound", [("fp16", 1e-3), ("int8", 2e-2)])
def test_smaller_tables_change_little(tmp_path, form, bound):
    task, scorer, batch, features = made(tmp_path, {}, form)
    difference = np.abs(scorer(inputs_of(batch, features)) - expected(task, batch)).max()
    assert 0 < difference < bound


def test_int8_rows_keep_their_ends_and_constant_rows(tmp_path):
    weight = torch.tensor([[0.0, 0.0, 0.0], [-1.0, 0.25, 1.0], [5.0, 5.0, 5.0]])
    tensor_file.write(Storage.open(tmp_path), "t", parts_of(weight, "int8"))
    found = TableFile(tmp_path / "t", "int8", 3, 3).take(np.array([2, 0, 1]))
    np.testing.assert_allclose(found, weight[[2, 0, 1]].numpy(), atol=1 / 255)
    np.testing.assert_array_equal(found[:2], weight[[2, 0]].numpy())


def test_rows_that_a_table_does_not_have(tmp_path):
    tensor_file.write(Storage.open(tmp_path), "t", parts_of(torch.zeros(3, 2), "fp32"))
    table = MappedTable(TableFile(tmp_path / "t", "fp32", 3, 2), 0, 3)
    for row in (3, -1):
        with pytest.raises(IndexError):
            table.take(np.array([0, row]))
    assert table.take(np.array([], np.int64)).shape == (0, 2)
    with pytest.raises(DamagedError, match="no int8 table of 3 rows"):
        TableFile(tmp_path / "t", "int8", 3, 2)
    (tmp_path / "t").write_bytes((tmp_path / "t").read_bytes()[:-1])
    with pytest.raises(DamagedError, match="lies outside"):
        TableFile(tmp_path / "t", "fp32", 3, 2)


@pytest.mark.parametrize("form", ["fp32", "fp16", "int8"])
def test_tables_of_one_width_share_a_file(tmp_path, form):
    weights = {"b": torch.randn(3, 4), "a": torch.randn(5, 4), "wide": torch.randn(2, 8)}
    stored = write_tables(tmp_path, WholeTables(weights), form)
    assert {name: (one.file, one.first) for name, one in stored.items()} == {
        "a": ("tables/00004.safetensors", 0),
        "b": ("tables/00004.safetensors", 5),
        "wide": ("tables/00008.safetensors", 0),
    }
    tables = tables_of(tmp_path, stored)
    for name, weight in weights.items():
        tensor_file.write(Storage.open(tmp_path), "alone", parts_of(weight, form))
        rows = np.arange(len(weight))[::-1].copy()
        np.testing.assert_array_equal(
            tables[name].take(rows), TableFile(tmp_path / "alone", form, *weight.shape).take(rows)
        )
    with pytest.raises(IndexError, match="row 5 of a table"):  # the file has it: it is another table's
        tables["a"].take(np.array([5]))
    with pytest.raises(DamagedError, match="several forms or widths"):
        tables_of(tmp_path, {**stored, "wide": StoredTable(file=stored["a"].file, form=form, first=0, rows=2, width=8)})
    with pytest.raises(DamagedError, match=f"no {form} table of 9 rows"):
        tables_of(tmp_path, {**stored, "b": stored["b"].model_copy(update={"rows": 4})})


def test_an_id_without_a_row_is_a_zero_vector_and_one_beyond_its_table_is_refused(tmp_path):
    _, scorer, batch, features = made(tmp_path, {})
    inputs = inputs_of(batch, features)
    lookup, sizes = scorer._lookups[0], inputs.candidates.ids.max() + 10_000

    def fields(ids):
        rows = dataclasses.replace(inputs.candidates, ids=ids)
        return lookup(inputs.users, rows, inputs.owners)[1]

    before, ids = fields(inputs.candidates.ids), inputs.candidates.ids.copy()
    ids[2, 0] = NO_ROW
    after = fields(ids)
    assert (after != before).any(axis=2).sum() == 1
    assert not after[(after != before).any(axis=2)].any()
    ids[3, 1] = sizes
    with pytest.raises(IndexError, match=f"row {sizes} of a table"):
        fields(ids)


def test_inputs_that_do_not_fit_are_refused(tmp_path):
    _, scorer, batch, features = made(tmp_path, {})
    inputs = inputs_of(batch, features)
    short = Rows(inputs.users.dense[:, :0], inputs.users.ids, inputs.users.bags, inputs.users.histories)
    with pytest.raises(InputError, match="the users have"):
        scorer(Inputs(short, inputs.candidates, inputs.owners))


def test_probabilities_are_predicts():
    logits = torch.linspace(-30, 30, 1001)
    np.testing.assert_allclose(probabilities(logits.numpy()), logits.sigmoid().numpy(), rtol=3e-7)


@pytest.mark.parametrize("seed", range(20))
def test_union_without_torch_is_that_of_training(seed):
    rng = np.random.default_rng(seed)
    samples, span = int(rng.integers(1, 6)), int(rng.choice([1, 3, 8, 2**33]))
    groups = []
    for _ in range(rng.integers(1, 5)):
        lengths = rng.choice([0, 0, 1, 2, 7], samples)
        groups.append((rng.integers(0, span, lengths.sum()), lengths))
    wanted = glue.union([(torch.from_numpy(ids), torch.from_numpy(lengths)) for ids, lengths in groups])
    for one, other in zip(union(groups), wanted, strict=True):
        np.testing.assert_array_equal(one, other.numpy())
