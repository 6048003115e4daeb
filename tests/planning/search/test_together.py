from __future__ import annotations

from pathlib import Path

import pytest

from interformer_rec.errors import InputError
from interformer_rec.planning.search.together import bundle, unbundle
from tests.planning.cases import problem


def test_a_group_is_one_table_with_the_sum_of_time_and_memory(tmp_path: Path):
    space = problem(tmp_path, nodes=2).space()
    bundled, members = bundle(space, [("user", "city")])
    (group,) = [option for option in bundled if option.name == "user"]
    singles = [o for o in space if o.name in ("user", "city") and o.sharding_type == "table_wise"]
    assert group.shards[0].perf.total == pytest.approx(sum(o.shards[0].perf.total for o in singles))
    assert group.shards[0].storage.hbm == sum(o.shards[0].storage.hbm for o in singles)
    assert not [option for option in bundled if option.name == "city"]
    group.shards[0].rank = 3
    back = unbundle([group], members)
    assert {(o.name, o.shards[0].rank, tuple(o.shards[0].size)) for o in back} == {
        ("user", 3, (901, 16)),
        ("city", 3, (51, 16)),
    }


def test_no_groups_change_nothing(tmp_path: Path):
    space = problem(tmp_path).space()
    assert bundle(space, []) == (space, {})


def test_a_group_that_may_not_be_table_wise_is_an_error(tmp_path: Path):
    (tmp_path / "c.yaml").write_text("tables: {city: {sharding: [row_wise]}}\n")
    space = problem(tmp_path, nodes=2, constraints=str(tmp_path / "c.yaml")).space()
    with pytest.raises(InputError, match="user, city together"):
        bundle(space, [("user", "city")])
