"""The best value so far, for patience and for the plateau schedule."""

import json
import math

import pytest

from interformer_rec.config.optimizer import Schedule
from interformer_rec.config.run import HIGHER_IS_BETTER
from interformer_rec.distributed.best_so_far import BestSoFar
from interformer_rec.distributed.optimizer import LearningRate
from interformer_rec.training.stopping import Progress

# Evaluations of a run whose metric rises or falls to its best at the fourth, then stalls.
VALUES = {
    "auc": [0.5, 0.6, 0.65, 0.7, 0.69, 0.7, 0.7, 0.68],
    "gauc": [0.0, 0.1, 0.2, 0.3, 0.1, 0.3, 0.2, 0.1],
    "logloss": [0.7, 0.6, 0.55, 0.5, 0.51, 0.5, 0.5, 0.52],
    "ne": [1.1, 1.0, 0.99, 0.9, 0.95, 0.9, 0.9, 1.2],
}


def again(whole, fresh):
    """Through JSON, as a checkpoint does."""
    fresh.load_state_dict(json.loads(json.dumps(whole.state_dict(), allow_nan=False)))
    return fresh


@pytest.mark.parametrize("before", range(8))
@pytest.mark.parametrize("monitor", VALUES)
def test_patience_and_schedule_go_on_after_a_resume(monitor, before):
    """A resume after any number of evaluations, none too, changes no decision."""

    def rate():
        return LearningRate(Schedule(kind="plateau", factor=0.5, patience=1), lambda: 100, HIGHER_IS_BETTER[monitor])

    whole, parts = (rate(), Progress(monitor, 2)), (rate(), Progress(monitor, 2))
    for number, value in enumerate(VALUES[monitor]):
        if number == before:
            parts = again(parts[0], rate()), again(parts[1], Progress(monitor, 2))
        for each in (whole, parts):
            each[0].observe(value)
            each[1].observe(value)
        assert parts[0].factor(number) == whole[0].factor(number)
        assert (parts[1].value, parts[1].stalled) == (whole[1].value, whole[1].stalled)
        assert parts[1].exhausted == whole[1].exhausted
        assert number >= 5 or parts[0].factor(number) == 1.0  # nothing divides the rate while the metric gets better
    assert whole[0].factor(8) == 0.25 and whole[1].exhausted


def test_a_value_that_is_not_defined_is_no_best():
    best = BestSoFar(True)
    assert [best.observe(value) for value in (math.nan, -1.0, math.nan, -1.0, 0.0)] == [False, True, False, False, True]
    assert best.state_dict() == {"value": 0.0, "stalled": 0}
