"""Tables with fewer rows than there are ranks: ranks without a row of any table train, save and load like the others."""

import numpy as np
import pytest

from interformer_rec.checkpoint.manifest import Base
from interformer_rec.checkpoint.read import load
from interformer_rec.checkpoint.touched_rows import TouchedRows
from interformer_rec.checkpoint.write import collect, write
from interformer_rec.storage import Storage
from tests.distributed import tiny
from tests.launch import on_one, on_ranks

FEW = {"bag_a": 1, "bag_b": 2, "seq_a": 3, "seq_b": 1}
KINDS = ("rowwise_adagrad", "sgd")
PLANS = ("row_wise", "column_wise", "table_wise", "auto")


def _train_and_save(env, folder):
    """Of every plan: losses, then state and losses after a full and an incremental checkpoint."""
    tiny.ROWS.update(FEW)
    found = {}
    for plan in PLANS:
        for kind in KINDS:
            parallel = tiny.build(env, plan, kind)
            losses = tiny.train(env, parallel, 0, 3)
            touched = TouchedRows(parallel.model)
            base = None
            for name, steps in (("full", 2), ("part", 1)):
                content = collect(parallel, env, {"step": steps}, touched=touched, base=base)
                written = write(Storage.open(folder / f"{plan}-{kind}-{name}"), content, env)
                base = Base(f"{plan}-{kind}-{name}", written.sha256)
                losses += tiny.train(env, parallel, len(losses), len(losses) + steps)
            found[plan, kind] = losses
    return found


def _load(env, folder):
    """Losses after loading each checkpoint, saved as any plan and loaded row-wise where a table may be."""
    tiny.ROWS.update(FEW)
    found = {}
    for saved_as in PLANS:
        for kind, name in ((k, n) for k in KINDS for n in ("full", "part")):
            parallel = tiny.build(env, "row_wise", kind)
            load(Storage.open(folder / f"{saved_as}-{kind}-{name}"), parallel, env)
            first = 3 if name == "full" else 5
            found[saved_as, kind, name] = tiny.train(env, parallel, first, 6)
    return found


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("few")
    return folder, on_ranks(4, _train_and_save, folder)[0]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    rows = dict(tiny.ROWS)
    try:
        return on_one(_train_and_save, tmp_path_factory.mktemp("alone"))
    finally:
        tiny.ROWS.update(rows)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("plan", PLANS)
def test_four_ranks_train_as_one_does(saved, alone, plan, kind):
    # column-wise, each half of a row has an accumulator of its own
    close = 5e-3 if (plan, kind) == ("column_wise", "rowwise_adagrad") else 1e-5
    np.testing.assert_allclose(saved[1][plan, kind], alone[plan, kind], atol=close)


@pytest.mark.parametrize("ranks", [1, 4, pytest.param(2, marks=pytest.mark.slow)])
def test_a_checkpoint_with_empty_shards_loads_on_other_plans_and_ranks(saved, ranks):
    folder, losses = saved
    loaded = on_ranks(ranks, _load, folder)[0]
    for (saved_as, kind, name), after in loaded.items():
        expected = losses[saved_as, kind][3 if name == "full" else 5 :]
        close = 5e-3 if (saved_as, kind) == ("column_wise", "rowwise_adagrad") else 1e-5
        assert np.allclose(after, expected, atol=close), (saved_as, kind, name)
