"""Where a run stands: the steps of an epoch, of a segment and of the run, also after a resume on another number of ranks."""

from __future__ import annotations

import json

import pytest

from interformer_rec.config.run import TrainingConfig
from interformer_rec.data.fit import fit
from interformer_rec.data.loader import Loader
from interformer_rec.errors import InputError
from interformer_rec.training.timeline import Position, is_over
from tests.data.samples import loader_of, numbered, write_numbered


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_numbered(tmp_path_factory.mktemp("timeline") / "d", [[100], [100]])


def rows(path: str, ranks: int = 1, **data: object) -> Loader:
    features = numbered()
    return loader_of(path, features, fit(features, path), batch_size=20, shuffle_rows=50, world_size=ranks, **data)


@pytest.mark.parametrize(
    "options, last", [({"epochs": 3}, 30), ({"epochs": 3, "max_steps": 7}, 7), ({"max_steps": 99}, 10)]
)
def test_the_last_step_of_a_new_run(path: str, options: dict, last: int) -> None:
    position = Position(TrainingConfig(**options), rows(path))
    assert position.total_steps == last and position.steps_left == 10 and not position.over


def test_segments_end_where_an_evaluation_is_due(path: str) -> None:
    position = Position(TrainingConfig(epochs=2, eval_every_steps=4, max_steps=17), rows(path))
    ends = []
    for end in (10, 20):  # of the epochs
        while position.step < end and not position.over:
            position.step += position.segment_steps(end)
            assert position.evaluation_is_due(end)
            ends.append(position.step)
    assert ends == [4, 8, 10, 12, 16, 17] and position.over
    position.step = 11
    assert not position.evaluation_is_due(20)


def test_steps_of_two_sizes_after_a_resume_on_more_ranks(path: str) -> None:
    alone = Position(TrainingConfig(epochs=2), rows(path))
    batches = rows(path).batches(0)
    for _ in range(4):
        _, alone.cursor = next(batches)
        alone.step += 1
    state = json.loads(json.dumps(alone.state()))
    same, two = Position(TrainingConfig(epochs=2), rows(path)), Position(TrainingConfig(epochs=2), rows(path, ranks=2))
    for position in (same, two):
        position.load_state(state)
        assert position.state() == state and position.place == {"epoch": 0, "step": 4}
    assert same.total_steps == 4 + 6 + 10 and same.steps_left == 6
    assert two.total_steps == 4 + 3 + 5 and two.steps_left == 3  # 120 rows left, then 200, in steps of 2 x 20


def test_other_rows_inside_an_epoch_are_no_place_to_go_on_from(path: str) -> None:
    position = Position(TrainingConfig(), rows(path))
    _, position.cursor = next(rows(path).batches(0))
    with pytest.raises(InputError, match="the seed changed"):
        Position(TrainingConfig(), rows(path, seed=7)).load_state(position.state())


def test_a_run_is_over_after_its_epochs_or_steps() -> None:
    assert not is_over(2, None, 1, 10**6) and is_over(2, None, 2, 5)
    assert is_over(2, 5, 0, 5) and not is_over(1, 5, 0, 4)


def test_epochs_that_are_left_out_have_no_steps(path):
    loader = rows(path)
    position = Position(TrainingConfig(epochs=5), loader, range(2, 4))
    assert position.total_steps == 3 * loader.steps
    position.epoch = 2
    assert position.steps_left == 0
    position.pass_over()
    assert position.epoch == 4 and position.steps_left == loader.steps
