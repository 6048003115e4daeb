"""Sets of sharding types: their bounds, and the best of them, against a search of every set."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from interformer_rec.planning.answer import place, rank_loads
from interformer_rec.planning.cost.timing import sharded_groups
from interformer_rec.planning.search.search import search
from interformer_rec.planning.sharding_groups import fixed_ms, least_by_groups, that_fit, work_ms
from tests.planning.cases import CPU, GPU, problem

JOBS = [(GPU, 1, {}), (GPU, 2, {"batch_size": 65_536}), (CPU, 1, {"batch_size": 16_384})]


def plan_ms(asked, options):
    """What groups and shards of a placed plan take."""
    return float(rank_loads(options, asked.ranks).max()) + fixed_ms(asked, sharded_groups(asked.tables, options))


@pytest.mark.parametrize("kind, nodes, more", JOBS)
def test_no_plan_of_a_set_falls_below_its_bound_and_the_best_set_is_found(tmp_path: Path, kind, nodes, more):
    asked = place(problem(tmp_path, kind, nodes, lengths=["clicks=12"], **more)).problem
    topology, space = asked.topology(), asked.first_space
    bounds = {groups: least for least, groups in least_by_groups(asked, space)}
    possible = sharded_groups(asked.tables, space)
    assert frozenset(possible) in bounds and list(bounds.values()) == sorted(bounds.values())
    best = float("inf")
    for count in range(1, 4):
        for groups in itertools.combinations(sorted(possible), count):
            rest = [o for o in space if (asked.tables[o.name].pooled, o.sharding_type) in groups]
            if {o.name for o in rest} != set(asked.tables):
                assert frozenset(groups) not in bounds
                continue
            options = search(rest, topology).options
            best = min(best, plan_ms(asked, options))
            if sharded_groups(asked.tables, options) == set(groups):
                assert bounds[frozenset(groups)] <= plan_ms(asked, options) * (1 + 1e-9)
    found = place(asked)
    slack = 0.002 * found.time.total  # that a plan may lose for ranks that are less full
    assert plan_ms(asked, found.options) <= best * (1 + 1e-3) + slack
    assert found.step_bound <= found.time.total


def test_one_types_bound_is_its_work_spread_perfectly(tmp_path: Path):
    asked = place(problem(tmp_path, GPU, 1, lengths=["clicks=12"], batch_size=65_536)).problem
    groups = frozenset({(True, "row_wise"), (False, "row_wise")})
    (least,) = (ms for ms, of in least_by_groups(asked, asked.first_space) if of == groups)
    rows = [option for option in asked.first_space if option.sharding_type == "row_wise"]
    spread = sum(work_ms(option) for option in rows) / asked.ranks
    longest = max(shard.perf.total for option in rows for shard in option.shards)
    assert least == pytest.approx(max(spread, longest) + fixed_ms(asked, set(groups)), rel=1e-9)


def test_what_fits_no_device_is_left_out(tmp_path: Path):
    asked = place(problem(tmp_path, GPU, 1)).problem
    space = asked.first_space
    assert that_fit(space, asked.topology()) == space
    small = asked.topology()
    largest = max(shard.storage.hbm for option in space for shard in option.shards)
    for device in small.devices:
        device.storage.hbm = largest - 1
    left = that_fit(space, small)
    assert 0 < len(left) < len(space)
    assert max(shard.storage.hbm for option in left for shard in option.shards) < largest
