"""A config without an input is a config, or says why not."""

from __future__ import annotations

import pytest

from interformer_rec.config import run as run_config
from interformer_rec.errors import InputError
from interformer_rec.explaining.savings import without
from tests.explaining import planted


@pytest.fixture
def config(tmp_path) -> run_config.RunConfig:
    tree = planted.config(tmp_path)
    tree["sharding"] = {"tables": {"b": "table_wise", "kind": "table_wise"}}
    return run_config.parse(tree, "test")


def test_a_table_goes_with_its_last_reader(config):
    assert set(without(config, ["a"], []).features.tables) == {"code", "b", "kind", "place"}
    both = without(config, ["a", "c"], [])
    assert set(both.features.tables) == {"b", "kind", "place"} and both.features.candidate == ("b",)
    found = without(config, ["b"], [("seen", "kind")])
    assert set(found.features.tables) == {"code", "place"} and not found.sharding.tables
    assert [column.name for column in found.features.sequences[0].columns] == ["place"]


def test_what_the_model_needs_cannot_go(config):
    din = config.model_dump(mode="json") | {"model": {"kind": "din"}}
    with pytest.raises(InputError, match=r"din needs at least one group under features.sequences"):
        without(run_config.parse(din, "test"), ["seen"], [])
    with pytest.raises(InputError, match="the run without it"):
        without(config, [], [("seen", "kind"), ("seen", "place")])
