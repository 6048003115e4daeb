from __future__ import annotations

import numpy as np
import pytest

from interformer_rec.planning.score.fit import line


def test_two_stages_share_a_slope_and_have_their_own_intercepts():
    sizes = np.array([1.0, 4.0, 16.0])
    found = line([sizes, 2 * sizes], [3 + 1.5 * sizes, 7 + 3 * sizes])
    assert found.slope == pytest.approx(1.5) and found.intercepts == pytest.approx((3.0, 7.0))


def test_an_intercept_below_zero_is_zero():
    found = line([[1.0, 4.0, 16.0], [1.0, 4.0, 16.0]], [[0.1, 3.0, 15.0], [5.0, 8.0, 20.0]])
    assert found.intercepts[0] == 0.0 and found.intercepts[1] > 3 and found.slope > 0.8


def test_what_shrinks_with_size_is_no_slope():
    found = line([[1.0, 4.0]], [[9.0, 8.0]])
    assert found.slope == 1.0 and found.intercepts == (6.0,)


@pytest.mark.parametrize("measured, slope, intercept", [([13.0], 1.0, 10.0), ([1.5], 0.5, 0.0)])
def test_one_size_never_makes_a_latency_a_bandwidth(measured: list[float], slope: float, intercept: float):
    found = line([[3.0]], [measured])
    assert (found.slope, found.intercepts) == (pytest.approx(slope), pytest.approx((intercept,)))
    assert line([[3.0]], [measured], grows=True).slope == pytest.approx(measured[0] / 3)


def test_without_a_prediction_all_is_intercept():
    assert line([[0.0, 0.0]], [[4.0, 6.0]]).intercepts == (4.0,)
    assert line([[1.0]], [[0.0]]).slope == 1.0
