"""Ranges, files of them, and that the spaces of the package fit every kind of model."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import ValidationError

from interformer_rec.config import run as run_config
from interformer_rec.config.baselines import AnyModelConfig
from interformer_rec.errors import InputError
from interformer_rec.tuning.question import ask
from interformer_rec.tuning.space import SPACES, Range, own_values, read_space, space_of

ROOT = Path(__file__).parents[2]
KINDS = [kind.model_fields["kind"].default for kind in get_args(get_args(AnyModelConfig)[0])]


@pytest.mark.parametrize(
    "given, why",
    [
        ({}, "a range is one of"),
        ({"log": [1, 2], "linear": [1, 2]}, "a range is one of"),
        ({"log": [0.0, 1.0]}, "begins above 0, not at 0"),
        ({"linear": [2, 1]}, "ends at 1, which is not above 2"),
        ({"int": [1, 1.5]}, "valid integer"),
        ({"int": [3, 3]}, "ends at 3"),
        ({"choices": []}, "at least 1 item"),
        ({"choices": [1, [2], 1]}, "there twice"),
        ({"uniform": [1, 2]}, "Extra inputs"),
        ([1, 2], "valid dictionary"),
    ],
)
def test_ranges_that_are_none(given: object, why: str):
    with pytest.raises(ValidationError, match=why):
        Range.model_validate(given)


def test_a_range_holds_numbers_between_its_ends_and_choices_hold_all():
    log, whole, choices = (
        Range.model_validate(one) for one in ({"log": [1e-3, 1]}, {"int": [1, 3]}, {"choices": ["a", [1]]})
    )
    assert log.holds(1e-3) and log.holds(1) and not log.holds(0.0) and not log.holds(None) and not log.holds(True)
    assert whole.holds(3) and not whole.holds(4) and choices.holds("else")
    assert (whole.samples(), choices.samples()) == ((1, 3), ("a", (1,)))


def test_a_file_names_every_range_that_is_none(tmp_path: Path):
    path = tmp_path / "space.yaml"
    path.write_text("model.d: {choices: [8]}\nmodel.layers: {int: [2, 1]}\noptimizer.dense.lr: {lg: [1, 2]}\n")
    with pytest.raises(InputError) as error:
        read_space(str(path))
    said = str(error.value)
    assert str(path) in said and "model.layers: the range ends at 1" in said and "optimizer.dense.lr: " in said
    assert "model.d" not in said and "{log: [low, high]}" in said
    for text in ("", "[1]", "a"):
        path.write_text(text)
        with pytest.raises(InputError, match="must be a mapping with a range for each key"):
            read_space(str(path))
    with pytest.raises(InputError, match="space file"):
        read_space(str(tmp_path / "none.yaml"))


def test_every_kind_has_a_space_that_fits_it():
    tree = yaml.safe_load((ROOT / "configs/ml_100k.yaml").read_text())
    assert sorted(yaml.safe_load(SPACES.read_text())["kinds"]) == sorted(KINDS)
    for kind in KINDS:
        config = run_config.parse({**tree, "model": {"kind": kind}}, kind)
        space = space_of(kind)
        own = own_values(space, config.model_dump(mode="json"), kind)
        assert {"optimizer.dense.lr", "model.embedding_std"} <= own.keys() == space.keys()


def wrong(text: str, tmp_path: Path, *changes: str) -> str:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        ask(str(ROOT / "configs/ml_100k.yaml"), changes, str(path), None)
    return str(error.value)


def test_keys_and_values_are_judged_before_work_starts(tmp_path: Path):
    said = wrong("model.layer: {int: [1, 2]}\nmodel.hidden: {choices: [[8]]}\nmodl.d: {int: [8, 16]}", tmp_path)
    assert "model.layer: the config has no such key (model kind interformer); did you mean 'layers'?" in said
    assert "model.hidden: the config has no such key (model kind interformer)" in said
    assert "modl.d: the config has no such key" in said
    assert "did you mean 'feedforward'" in wrong("model.feedfoward: {int: [1, 2]}", tmp_path, "model={kind: bst}")
    said = wrong("training.monitor: {choices: [auc]}\ntraining.checkpoint.keep: {int: [1, 2]}", tmp_path)
    assert "training.monitor is the same in all of them" in said and "so training.checkpoint is the same" in said
    said = wrong(
        "model.head: {choices: [[8]]}\nmodel.sequence.pffn_rank: {int: [1, 2]}\nmodel.sequence: {choices: [{}]}",
        tmp_path,
    )
    assert "model.sequence: model.sequence.pffn_rank is a part of it" in said
    said = wrong(
        "model.dropout: {linear: [0.0, 1.5]}\nmodel.d: {choices: [32, wide, 7]}\nmodel.flow: {choices: [int, in]}",
        tmp_path,
    )
    assert "model.dropout: 1.5: Input should be less than 1" in said
    assert "model.d: 'wide': Input should be a valid integer" in said
    assert "model.flow: 'in': Input should be" in said
    assert "model.d: 7" not in said  # an odd width contradicts two heads, not itself: a trial's own affair
    assert "features.sequences.5.max_length: the config has" in wrong(
        "features.sequences.0.max_length: {int: [5, 20]}\nfeatures.sequences.5.max_length: {int: [5, 20]}", tmp_path
    )
