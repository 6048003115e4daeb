"""Lower bounds: never above what is possible, and above the plain average where that is too low."""

import random

import numpy as np
import pytest

from interformer_rec.planning.search.bound import lower_bound, threshold_bound
from interformer_rec.planning.search.select import ProgramColumns
from interformer_rec.planning.search.space import build_problem
from tests.planning.problems import best_of_all, cluster, option


def bound_of(space, topology, plan):
    columns = ProgramColumns(build_problem(space, topology))
    low = threshold_bound(columns)
    return low, lower_bound(columns, low, plan)


@pytest.mark.parametrize("seed", range(20))
def test_never_above_the_best_plan(seed):
    draw = random.Random(seed)
    space = []
    for table in range(4):
        ms, size = draw.uniform(1, 10), draw.randint(10, 60)
        space += [
            option(f"t{table}", "table_wise", (ms, size)),
            option(f"t{table}", "column_wise", (0.55 * ms, size // 2), (0.55 * ms, size // 2)),
            option(f"t{table}", "row_wise", *[(draw.uniform(0.2, 0.9) * ms, size // 3)] * 3),
        ]
    topology = cluster(3, hbm=draw.choice([70, 100, 1000]), ddr=0)
    best = best_of_all(space, topology)
    if np.isinf(best):
        pytest.skip("this draw has no plan to compare with")
    low, high = bound_of(space, topology, best)
    assert 0 < low <= high <= best * (1 + 1e-9)
    assert bound_of(space, topology, 3 * best)[1] <= best * (1 + 1e-9)


def test_work_spread_evenly():
    space = [option(f"t{i}", "table_wise", (1.0, 1)) for i in range(100)]
    assert bound_of(space, cluster(4, ddr=0), 25.0)[1] == pytest.approx(25.0, rel=1e-3)


def test_a_long_shard_is_the_bound_unless_it_can_be_split_at_a_price():
    """One table of 10 ms, or of 2 x 6 ms: on two ranks 6 is the least, though 10 / 2 is the average."""
    whole = option("t", "table_wise", (10.0, 1))
    split = option("t", "column_wise", (6.0, 1), (6.0, 1))
    assert bound_of([whole, split], cluster(2, ddr=0), 6.0)[1] == pytest.approx(6.0, rel=1e-3)
    assert bound_of([whole], cluster(2, ddr=0), 10.0)[1] == pytest.approx(10.0, rel=1e-3)


def test_two_long_shards_do_not_share_a_rank():
    """Three tables of 6 ms on two ranks: 12, not 9."""
    space = [option(f"t{i}", "table_wise", (6.0 + 0.01 * i, 1)) for i in range(3)]
    assert bound_of(space, cluster(2, ddr=0), 12.03)[1] == pytest.approx(12.0, rel=2e-3)


def test_what_is_on_every_rank_adds_to_the_longest_shard():
    space = [option("long", "table_wise", (6.0, 1)), option("everywhere", "row_wise", *[(3.0, 1)] * 4)]
    assert bound_of(space, cluster(4, ddr=0), 9.0)[1] == pytest.approx(9.0, rel=1e-3)


def test_scarce_memory_raises_the_bound():
    """Fast options take the memory of both ranks; with half of it each table but two must be slow."""
    space = []
    for i in range(8):
        space += [option(f"t{i}", "table_wise", (1.0, 50)), option(f"t{i}", "row_wise", (4.0, 1), (4.0, 1))]
    _, plenty = bound_of(space, cluster(2, hbm=1000, ddr=0), 100.0)
    _, scarce = bound_of(space, cluster(2, hbm=107, ddr=0), 100.0)
    assert plenty == pytest.approx(4.0, rel=1e-3)
    assert scarce == pytest.approx(best_of_all(space, cluster(2, hbm=107, ddr=0)), rel=0.1) and scarce > 3 * plenty
