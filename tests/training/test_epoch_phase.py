"""The log says what each epoch trains on: events of histories or logged rows, how many, and which ensemble member."""

from __future__ import annotations

import pytest

from interformer_rec.config.baselines import DINConfig
from interformer_rec.training import run
from interformer_rec.training.epoch_phase import epoch_line

EVENTS = [
    "data.history_pretraining={epochs: 2, history: hist0, labels: {label: hist1}}",
    "features.candidate=[item_id, category]",
    "optimizer.embedding.kind=adagrad",
]


@pytest.mark.parametrize(
    "overrides, epoch, continued, line",
    [
        ([], 0, False, "epoch 0 begins, 1 of 2: 1,501 logged rows"),
        ([], 1, True, "epoch 1 continues, 2 of 2: 1,501 logged rows"),
        (
            [*EVENTS, "training.epochs=4", "model.ensemble_members=2"],
            1,
            False,
            "epoch 1 begins, 2 of 4: history pre-training (2 of 2), up to 1,501 events: drawn from the history 'hist0', each with what "
            "came before it; trains ensemble member 2 of 2",
        ),
        (
            [*EVENTS, "training.epochs=4", "model.ensemble_members=2"],
            2,
            False,
            "epoch 2 begins, 3 of 4: 1,501 logged rows (1 of 2); trains ensemble member 1 of 2",
        ),
    ],
)
def test_a_line_names_the_phase(small, overrides, epoch, continued, line):
    assert epoch_line(small(*overrides), epoch, 1501, continued) == line


def test_every_kind_has_a_line(small):
    """The kinds other than InterFormer have no ensemble."""
    config = small().model_copy(update={"model": DINConfig()})
    assert epoch_line(config, 0, 1501) == "epoch 0 begins, 1 of 2: 1,501 logged rows"


def test_a_run_logs_each_epoch_before_its_first_step(small, capfd):
    config = small("training.epochs=2", "data.valid=null", "data.test=null", "training.log_every_steps=1")
    assert run.train(config, resume=False) == 0
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("epoch ")]
    assert lines[0] == "epoch 0 begins, 1 of 2: 1,501 logged rows"
    assert "epoch 1 begins, 2 of 2: 1,501 logged rows" in lines
