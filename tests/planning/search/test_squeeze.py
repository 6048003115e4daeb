"""Where memory is scarce: the search balances bytes, and what comes out is a placement of the real problem."""

import numpy as np

from interformer_rec.planning.search.candidate import HBM
from interformer_rec.planning.search.placement import Placement
from interformer_rec.planning.search.space import build_problem
from interformer_rec.planning.search.squeeze import squeeze
from tests.planning.problems import cluster, option


def filled(sizes, room):
    """Tables of the sizes, of 1, 2, 3, ... ms, on two ranks; in the order of the list."""
    space = [option(f"t{i}", "table_wise", (1.0 + i, size)) for i, size in enumerate(sizes)]
    problem = build_problem(space, cluster(2, hbm=room, ddr=0))
    return problem, [(bundle, 0) for bundle in range(len(sizes))]


def test_bytes_are_balanced_whatever_the_milliseconds():
    """50 + 50 and 40 + 30 + 30 fill both ranks; placed one after another on the emptier rank they do not fit."""
    problem, order = filled([50, 40, 30, 30, 50], 100)
    found = squeeze(problem, order, HBM)
    assert found is not None
    placement = Placement(problem)
    placement.restore(found)
    assert placement.load[:, HBM].tolist() == [100.0, 100.0]
    assert found.perf == max(placement.load[:, 0]) == 9.0  # 2 + 3 + 4 ms, and 1 + 5


def test_what_cannot_fit_is_not_claimed_to():
    problem, order = filled([60, 60, 60], 100)
    assert squeeze(problem, order, HBM) is None


def test_cost_is_the_chosen_resource():
    problem, _ = filled([50, 10], 100)
    by_time, by_bytes = Placement(problem), Placement(problem, resource=HBM)
    for placement in (by_time, by_bytes):
        assert placement.put(0, 0) and placement.put(1, 0)
    assert (by_time.most, by_bytes.most) == (2.0, 50.0)
    assert np.array_equal(by_bytes.cost, by_bytes.load[:, HBM])
    assert by_time.assignment().perf == by_bytes.assignment().perf == 2.0  # of a plan always milliseconds
