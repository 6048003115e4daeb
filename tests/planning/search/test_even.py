"""Memory over the ranks: spread where time allows it, never at the price of time."""

from __future__ import annotations

import random

import numpy as np
import pytest

from interformer_rec.planning.search.even import even
from interformer_rec.planning.search.placement import Assignment, Placement
from interformer_rec.planning.search.search import search
from interformer_rec.planning.search.space import build_problem
from tests.planning.problems import cluster, option


def test_large_tables_that_cost_little_time_do_not_share_a_rank():
    """One table takes all the time; eight others take hardly any, but memory: four ranks, so the best is two or three each."""
    space = [option("slow", "table_wise", (100.0, 1)), *[option(f"t{i}", "table_wise", (1.0, 30)) for i in range(8)]]
    problem = build_problem(space, cluster(4, hbm=300, ddr=0))
    piled = Assignment((0,) * 9, ((),) * 9, ((0,), *[(1,)] * 8), 100.0)
    found = even(problem, piled, 100.0, 200)
    placement = Placement(problem)
    placement.restore(found)
    assert found.perf == 100.0
    assert placement.load[:, 1].max() <= 91  # 1 + 3 x 30; the mean is 60
    assert max(search(space, cluster(4, hbm=300, ddr=0)).hbm_per_rank) <= 91


def test_a_table_is_cut_where_that_costs_no_time():
    """Whole it takes less time in sum and 80 bytes of one rank; the other ranks wait for the slowest anyhow."""
    space = [option("slow", "table_wise", (9.0, 10)), option("big", "table_wise", (4.0, 80))]
    space.append(option("big", "column_wise", *[(2.0, 20)] * 4))
    found = search(space, cluster(4, hbm=100, ddr=0))
    assert found.perf == 9.0 and max(found.hbm_per_rank) <= 40


@pytest.mark.parametrize("seed", range(8))
def test_never_slower_and_never_fuller(seed: int):
    draw = random.Random(seed)
    ranks = draw.choice([4, 8])
    space = []
    for i in range(draw.randint(10, 30)):
        ms, size = draw.uniform(1, 3), int(draw.lognormvariate(3, 1.2)) + 1
        space += [
            option(f"t{i}", "table_wise", (ms, size)),
            option(f"t{i}", "column_wise", (0.6 * ms, size // 2 + 1), (0.6 * ms, size // 2 + 1)),
            option(f"t{i}", "table_row_wise", *[(0.35 * ms, size // 4 + 1)] * 4),
        ]
    problem = build_problem(space, cluster(ranks, 4, hbm=2000, ddr=0))
    before = Placement(problem)
    for bundle in range(len(problem.tables)):
        assert before.put(bundle, 0)
    found = even(problem, before.assignment(), 1.0, 200)
    after = Placement(problem)
    after.restore(found)
    assert after.most <= before.most * (1 + 1e-9) and (after.load <= problem.capacity).all()
    assert after.load[:, 1].max() <= before.load[:, 1].max()
    assert np.isclose(found.perf, after.most)
