"""embedding_dim that FBGEMM's kernels refuse is refused by the config, with the nearest that works; the others shard and train."""

import pytest
from torchrec.distributed.sharding_plan import _get_block_size_for_cw_shard as column_shard

from interformer_rec import cli
from interformer_rec.config.table_width import MULTIPLE, check_widths
from tests.distributed import tiny
from tests.launch import on_one
from tests.planning.cases import CONFIG


@pytest.mark.parametrize(
    "dim, sets, nearest", [(1, 1, 4), (3, 1, 4), (6, 1, 8), (5, 1, 4), (30, 1, 32), (3, 2, 4), (1, 2, 2)]
)
def test_the_nearest_that_works_is_named(dim, sets, nearest):
    with pytest.raises(ValueError, match=rf"^model\.embedding_dim is {dim}: .* The nearest that works is {nearest}$"):
        check_widths(dim, sets, {"t": None})
    check_widths(nearest, sets, {"t": None})


@pytest.mark.parametrize("dim, sets", [(4, 1), (12, 1), (2, 2), (1, 4), (3, 4)])
def test_rows_of_a_multiple_of_four_floats_pass(dim, sets):
    check_widths(dim, sets, {"t": None, "u": 4 * dim})


def test_the_key_that_is_wrong_is_named():
    with pytest.raises(ValueError, match=r"features\.tables\.u\.embedding_dim is 6"):
        check_widths(6, 1, {"u": 6})
    check_widths(6, 1, {"u": 8})  # no table has the model's


@pytest.mark.parametrize(
    "change, key",
    [("model.embedding_dim=6", "model"), ("features.tables.user.embedding_dim=3", "features.tables.user")],
)
@pytest.mark.parametrize("command", [["config"], ["plan", "--cluster", "cpu"]])
def test_config_and_plan_refuse_it(tmp_path, capsys, command, change, key):
    path = tmp_path / "c.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    assert cli.main([command[0], str(path), *command[1:], "--set", change]) == 2
    said = capsys.readouterr().err
    assert f"{key}.embedding_dim is" in said and "The nearest that works is" in said


def test_column_shards_of_a_row_that_fits_fit_too():
    assert all(column_shard(dim, None) % MULTIPLE == 0 for dim in range(MULTIPLE, 2049, MULTIPLE))


def _narrow(env, dim):
    tiny.DIM = dim
    return tiny.train(env, tiny.build(env, "column_wise"), 0, 2)


def test_kernels_take_what_the_check_takes_and_nothing_else(monkeypatch):
    monkeypatch.setattr(tiny, "DIM", tiny.DIM)
    assert len(on_one(_narrow, 12)) == 2
    with pytest.raises(AssertionError, match=r"not divisible by 4|multiple of 4"):
        on_one(_narrow, 6)
