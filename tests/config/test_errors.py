"""Errors of a config for a reader: a key that has a new name is an error that gives it, wherever the config comes from."""

import pytest
import yaml

from interformer_rec import cli
from interformer_rec.config import run as config
from interformer_rec.config.errors import RENAMED
from interformer_rec.errors import InputError

PLAIN = {"name": "run", "data": {}, "features": {"tables": {"user": {}}, "ids": ["user"], "labels": ["click"]}}


def with_key(key: str, value) -> str:
    part, name = key.split(".")
    return yaml.safe_dump({**PLAIN, part: {**PLAIN.get(part, {}), name: value}})


def read(how: str, key: str, value):
    if how == "file":
        return config.parse_yaml(with_key(key, value), "run.yaml")
    if how == "saved":
        return config.parse_found(with_key(key, value), "run.yaml")
    below = ".epochs" if how == "nested --set" else ""
    return config.parse_yaml(yaml.safe_dump(PLAIN), "run.yaml", [f"{key}{below}={value}"])


@pytest.mark.parametrize("how", ["file", "saved", "--set", "nested --set"])
@pytest.mark.parametrize("old", RENAMED)
def test_an_old_key_is_an_error_that_gives_the_new_one(old, how):
    with pytest.raises(InputError) as caught:
        read(how, old, 2)
    assert f"{old}: this key has a new name: write {RENAMED[old]} instead." in str(caught.value)


@pytest.mark.parametrize("new", RENAMED.values())
def test_a_new_key_is_one(new):
    with pytest.raises(InputError) as caught:
        read("file", new, "no such value")
    assert f"{new}: " in str(caught.value) and "unknown" not in str(caught.value)


def test_a_kind_without_the_new_key_does_not_get_its_name():
    with pytest.raises(InputError, match=r"model\.embedding_sets: unknown key 'embedding_sets' for kind fm"):
        config.parse_yaml(yaml.safe_dump({**PLAIN, "model": {"kind": "fm", "embedding_sets": 2}}), "run.yaml")


def test_a_command_ends_with_2(tmp_path, capsys):
    path = tmp_path / "run.yaml"
    path.write_text(with_key("training.pairwise", 0.5), encoding="utf-8")
    assert cli.main(["config", str(path)]) == 2
    assert "write training.pairwise_loss_weight instead" in capsys.readouterr().err
