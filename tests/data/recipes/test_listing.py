"""`interformer data --help` has every recipe and option; loading it is left to who asks."""

from __future__ import annotations

import pytest

from interformer_rec import cli
from interformer_rec.data.files import known_sets
from interformer_rec.data.recipes import listing
from interformer_rec.data.recipes.catalog import RECIPES
from interformer_rec.errors import InputError


def test_help_lists_recipes_and_options(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["data", "--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    for name, recipe in RECIPES.items():
        assert f"\n  {name}\n" in said
        assert all(f"--set {option}={value} " in said for option, value in recipe.options.items())
    assert "https://zenodo.org/records/10439422" in said


def test_every_option_has_a_meaning_and_no_other():
    assert set(listing.OPTIONS) == {option for recipe in RECIPES.values() for option in recipe.options}


def test_help_of_other_commands_loads_no_recipe(monkeypatch, capsys):
    monkeypatch.setitem(cli.CALLS, "recipes", "nowhere:nothing")
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    assert "recipes" not in capsys.readouterr().out


def test_the_names_that_messages_know_are_the_recipes():
    assert set(known_sets.RECIPES) == set(RECIPES)
    for name, by_hand in known_sets.RECIPES.items():
        assert by_hand == (RECIPES[name].source is not None and RECIPES[name].source.by_hand)


@pytest.mark.parametrize(
    "path, command",
    [
        ("data/kuairand_pure/train.parquet", "`interformer data kuairand_pure --out data/kuairand_pure --raw FOLDER`"),
        ("data/ml-100k/train.parquet", "`interformer data ml-100k --out data/ml-100k`"),
        ("data/ml_100k/train.parquet", "`interformer data ml-100k --out data/ml_100k`"),
        ("data/criteo", "`interformer data criteo --out data/criteo --raw FOLDER`"),
    ],
)
def test_a_missing_set_is_named_with_its_command(path, command):
    assert command in known_sets.how_to_make(path)


@pytest.mark.parametrize(
    "path", ["data/mine/train.parquet", "s3://bucket/kuairand_pure/train.parquet", "/x/notcriteo", "data"]
)
def test_other_paths_get_no_advice(path):
    assert known_sets.how_to_make(path) == ""


def test_training_without_the_files_says_how_to_get_them(monkeypatch, tmp_path):
    """By the variable's name too: its value need not name the set."""
    from interformer_rec.config.run import load
    from interformer_rec.data.files.source import open_source
    from tests.test_configs import CONFIGS

    monkeypatch.setenv("KUAIRAND_PURE", str(tmp_path / "sets"))
    train = load(CONFIGS / "kuairand_pure.yaml").data.train
    with pytest.raises(InputError, match=r"`interformer data kuairand_pure --out \$\{KUAIRAND_PURE\} --raw FOLDER`"):
        open_source(train, None)
