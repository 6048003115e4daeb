"""Saved on one plan and world size, loaded on another: the same tables, optimizer state and dense part; and bad files."""

import json
import re
import shutil

import numpy as np
import pytest

from interformer_rec.distributed import checkpoint
from interformer_rec.errors import InputError
from tests.distributed.tiny import build, train, whole_state
from tests.launch import on_one, on_ranks


def _save(env, folder, cases):
    """Train each (plan, optimizer) a little and save it; its state and what it would lose in the next steps."""
    found = {}
    for plan, kind in cases:
        parallel = build(env, plan, kind)
        train(env, parallel, 0, 5)
        checkpoint.save(folder / f"{plan}-{kind}", parallel, env, {"step": 5})
        state = whole_state(env, parallel)
        found[plan, kind] = state, train(env, parallel, 5, 10)
    return found


def _load(env, folder, cases):
    found = {}
    for saved_as, plan, kind in cases:
        parallel = build(env, plan, kind)
        checkpoint.load(folder / f"{saved_as}-{kind}", parallel)
        state = whole_state(env, parallel)
        found[saved_as, plan, kind] = state, train(env, parallel, 5, 10)
    return found


KINDS = ("sgd", "adagrad", "rowwise_adagrad")
PLANS = ("table_wise", "data_parallel", "row_wise", "column_wise")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    return folder, on_ranks(2, _save, folder, [(plan, kind) for plan in PLANS for kind in KINDS])[0]


@pytest.mark.parametrize("world_size", [1, 2])
def test_every_plan_loads_on_every_other(saved, world_size):
    folder, states = saved
    cases = [(a, b, kind) for a in PLANS for b in PLANS for kind in KINDS]
    loaded = on_ranks(world_size, _load, folder, cases)[0]
    for (saved_as, plan, kind), (state, losses) in loaded.items():
        expected, expected_losses = states[saved_as, kind]
        cut = kind == "rowwise_adagrad" and "column_wise" in (saved_as, plan) and (saved_as, world_size) != (plan, 2)
        for name, array in expected.items():
            if "momentum1" in name and cut:
                continue  # merged or divided accumulators: the next losses tell
            np.testing.assert_array_equal(state[name], array, err_msg=f"{saved_as} -> {plan}, {kind}: {name}")
        assert np.allclose(losses, expected_losses, atol=5e-3 if cut else 1e-5), (saved_as, plan, kind)


def _bad(env, folder, change):
    parallel = build(env)
    change(folder)
    try:
        checkpoint.load(folder, parallel)
    except InputError as error:
        return str(error)
    return "loaded"


def _truncate(folder):
    file = folder / "rank-00000.safetensors"
    file.write_bytes(file.read_bytes()[:100])


def _lose(folder):
    (folder / "rank-00001.safetensors").unlink()


def _other_model(folder):
    state = json.loads((folder / "state.json").read_text())
    state["tables"]["bag_a"] = [12, 64]
    (folder / "state.json").write_text(json.dumps(state))


def _not_json(folder):
    (folder / "state.json").write_text("{")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_truncate, "rank-00000.safetensors.*damaged"),
        (_lose, "lacks weight of table"),
        (_other_model, r"'bag_a' has shape \[12, 64\] there and \[11, 64\] here"),
        (_not_json, "not a readable checkpoint"),
    ],
)
def test_a_bad_checkpoint_says_what_is_wrong(saved, tmp_path, change, message):
    folder = tmp_path / "copy"
    shutil.copytree(saved[0] / "row_wise-rowwise_adagrad", folder)
    assert re.search(message, on_one(_bad, folder, change))


def _flip(folder):
    file = folder / "rank-00001.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: None, None),
        (_flip, "rank-00001.safetensors is not what was written: its checksum differs"),
        (_truncate, "rank-00000.safetensors has 100 bytes"),
        (_lose, "rank-00001.safetensors is missing"),
        (
            lambda folder: (folder / "manifest.json").unlink(),
            "manifest.json is missing: the checkpoint was never finished",
        ),
        (
            lambda folder: (folder / "manifest.json").write_text('{"format": 9}'),
            "format 9; this release reads format 1",
        ),
    ],
)
def test_damage_is_found_and_named(saved, tmp_path, change, message):
    folder = tmp_path / "copy"
    shutil.copytree(saved[0] / "row_wise-rowwise_adagrad", folder)
    change(folder)
    found = on_one(lambda env: checkpoint.damage(folder, env))
    assert found == [] if message is None else message in found[0]


def _save_where_one_cannot(env, folder):
    """Rank 1's file cannot be written: a folder is in its way."""
    parallel = build(env)
    checkpoint.save(folder / "good", parallel, env, {"step": 1})
    original = checkpoint.save_file

    def full(tensors, path, *rest):
        if env.rank == 1:
            raise OSError(28, "No space left on device", str(path))
        original(tensors, path, *rest)

    checkpoint.save_file = full
    try:
        checkpoint.save(folder / "bad", parallel, env, {"step": 2})
    except checkpoint.SaveError as error:
        return str(error), checkpoint.damage(folder / "good", env), sorted(p.name for p in folder.iterdir())
    return "saved"


def test_a_full_disk_on_one_rank_is_an_error_on_all_and_leaves_nothing(tmp_path):
    for message, good, left in on_ranks(2, _save_where_one_cannot, tmp_path):
        assert "rank 1: [Errno 28] No space left on device" in message
        assert good == [] and left == ["good"]


def test_the_optimizers_kind_must_match(saved, tmp_path):
    def load(env):
        checkpoint.load(saved[0] / "table_wise-sgd", build(env, kind="adagrad"))

    with pytest.raises(InputError, match=r"lacks momentum1.*optimizer.embedding.kind"):
        on_one(load)


def test_saving_twice_replaces_and_leaves_no_part(tmp_path):
    def save(env):
        parallel = build(env)
        for step in (1, 2):
            checkpoint.save(tmp_path / "step", parallel, env, {"step": step})

    on_one(save)
    assert checkpoint.read_state(tmp_path / "step")["step"] == 2
    assert [p.name for p in tmp_path.iterdir()] == ["step"]
