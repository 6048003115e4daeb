"""What `publish` may stand beside."""

from __future__ import annotations

import pytest
import yaml

from interformer_rec.config import run as config
from interformer_rec.errors import InputError

TREE = {
    "name": "published",
    "data": {"train": "train"},
    "features": {
        "ids": ["item"],
        "sequences": [{"name": "past", "max_length": 4, "columns": [{"name": "item", "column": "past"}]}],
        "tables": {"item": {"ids": "vocab"}},
        "labels": ["click"],
    },
    "publish": {"to": "served"},
}
WINDOWS = ["data.train=null", "data.windows.path=windows"]
STEPS = ["publish.every=20", "training.checkpoint.every_steps=10"]


def read(*overrides: str) -> config.RunConfig:
    return config.parse_yaml(yaml.safe_dump(TREE), "test", list(overrides))


@pytest.mark.parametrize("overrides", [WINDOWS, STEPS, [*WINDOWS, *STEPS]])
def test_windows_and_steps_with_a_checkpoint_can_be_published(overrides):
    options = read(*overrides).publish
    assert options is not None and (options.full_every, options.keep) == (24, 2)


@pytest.mark.parametrize(
    "overrides, message",
    [
        ([], "publish.every: window needs data.windows"),
        (["publish.every=20"], "training.checkpoint.every_steps is None; it must divide publish.every"),
        (["publish.every=20", "training.checkpoint.every_steps=15"], "every_steps is 15"),
        (["publish.every=day"], "publish.every"),
        ([*STEPS, "publish.full_every=0"], "publish.full_every"),
    ],
)
def test_what_is_refused(overrides, message):
    with pytest.raises(InputError, match=message):
        read(*overrides)
