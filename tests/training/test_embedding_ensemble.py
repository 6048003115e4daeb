"""Runs of an embedding ensemble: an epoch moves its own member, on two ranks, after a stop, and at scoring."""

import pytest
import torch
from safetensors.torch import load_file

from interformer_rec.training import run
from interformer_rec.training.scoring import trained
from tests.forked import command
from tests.training.runs import records, save_config

ENSEMBLE = (
    "model.ensemble_members=2",
    "model.dropout=0.2",
    "optimizer.embedding.kind=adagrad",
    "optimizer.embedding.l2=0.01",
    "optimizer.dense.ema=0.9",
    "training.checkpoint.keep=9",
)
FIRST, SECOND = "step-00000012", "step-00000024"  # the ends of the epochs


@pytest.fixture(scope="module")
def files():
    """Tensors of a checkpoint by its files' names."""
    return lambda folder: {file: load_file(folder / file) for file in ("rank-00000.safetensors", "dense.safetensors")}


def test_an_epoch_moves_its_own_member_and_a_checkpoint_scores_with_those_trained(small, tmp_path, files):
    assert run.train(small(*ENSEMBLE)) == 0
    saved = tmp_path / "run" / "checkpoints"
    first, second = files(saved / FIRST), files(saved / SECOND)
    for key, after in second["dense.safetensors"].items():  # weights, moments, averages
        before = first["dense.safetensors"].get(key)
        if "|model.members.0." in key:
            assert before is not None and torch.equal(after, before), key
        else:
            assert "|model.members.1." in key and (before is None or not torch.equal(after, before)), key
    tables = {key: table for key, table in second["rank-00000.safetensors"].items() if key.endswith("|weight")}
    assert tables
    for key, table in tables.items():
        (kept, moved), (old, start) = table.chunk(2, 1), first["rank-00000.safetensors"][key].chunk(2, 1)
        assert torch.equal(kept, old) and not torch.equal(moved, start), key
    logged = records(tmp_path / "run", "valid")
    for checkpoint, record in zip((FIRST, SECOND), logged, strict=True):
        again = trained.evaluate(str(saved / checkpoint), str(small().data.valid))
        for name in ("auc", "logloss"):
            assert again[f"label/{name}"] == pytest.approx(record[f"label/{name}"], abs=1e-6)


def test_a_run_stopped_in_the_second_members_epoch_goes_on_bit_for_bit(small, tmp_path, files):
    whole, parts = f"training.out={tmp_path}/whole", f"training.out={tmp_path}/parts"
    assert run.train(small(*ENSEMBLE, whole)) == 0
    assert run.train(small(*ENSEMBLE, parts, "training.max_steps=17")) == 0
    assert run.train(small(*ENSEMBLE, parts), resume=True) == 0
    one, other = (files(tmp_path / part / "checkpoints" / SECOND) for part in ("whole", "parts"))
    for file, tensors in one.items():
        assert tensors.keys() == other[file].keys()
        for key, tensor in tensors.items():
            assert torch.equal(tensor, other[file][key]), key


def test_two_ranks_train_one_member_after_the_other(small, tmp_path):
    path = save_config(small, tmp_path, *ENSEMBLE, "data.test=null")
    ended = command(2, "train", path)
    assert [rank.code for rank in ended] == [0, 0], ended
    losses = [record["loss"] for record in records(tmp_path / "run", "train")]
    assert sum(record["rows"] for record in records(tmp_path / "run", "train")) == 2 * 1501
    assert len(records(tmp_path / "run", "valid")) == 2 and all(0 < loss < 2 for loss in losses)
