"""References, overrides and names of a config's text, and the way back."""

import pytest

from interformer_rec import redaction
from interformer_rec.config import run as config
from interformer_rec.config.text import Reference, fill, variables, written
from interformer_rec.errors import InputError

TEXT = """
name: run
data: {train: "${DATA}/train", valid: "${DATA}/valid", batch_size: "${ROWS}"}
features: {tables: {"$${X}": {}, user: {}}, ids: ["$${X}", "${COLUMN:-user}"], labels: [click]}
model: {kind: fm}
optimizer: {dense: {lr: "${RATE:-1e-2}"}}
training: {patience: "${PATIENCE:-null}", checkpoint: {asynchronous: "${ASYNC:-no}"}}
"""


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setenv("DATA", "/a/long/folder")
    monkeypatch.setenv("ROWS", "64")
    yield
    redaction.forget()


def test_values_take_their_type_and_the_saved_config_keeps_references():
    run = config.parse_yaml(TEXT, "run.yaml")
    assert (run.data.train, run.data.batch_size, run.optimizer.dense.lr) == ("/a/long/folder/train", 64, 0.01)
    assert (run.training.patience, run.training.checkpoint.asynchronous) == (None, False)
    assert [feature.column for feature in run.features.ids] == ["${X}", "user"]
    saved = config.to_yaml(run)
    assert "/a/long" not in saved and "batch_size: ${ROWS}" in saved and "column: $${X}" in saved
    assert config.parse_yaml(saved, "saved.yaml") == run


def test_a_value_that_was_changed_since_is_saved_as_it_is():
    run = config.parse_yaml(TEXT, "run.yaml")
    moved = run.model_copy(update={"data": run.data.model_copy(update={"train": "elsewhere"})})
    assert "train: elsewhere" in config.to_yaml(moved) and "valid: ${DATA}/valid" in config.to_yaml(moved)


def test_references_in_set():
    run = config.parse_yaml(TEXT, "run.yaml", ["data.test=${DATA}/test", "data.train=${DATA}/t"])
    assert run.data.test == "/a/long/folder/test" and "test: ${DATA}/test" in config.to_yaml(run)


def test_a_wrong_value_of_the_environment_is_not_printed(monkeypatch):
    monkeypatch.setenv("ROWS", "hunter2-hunter2")
    with pytest.raises(InputError, match=r"data.batch_size: .*integer \(got '\$\{ROWS\}'\)") as caught:
        config.parse_yaml(TEXT, "run.yaml")
    assert "hunter2" not in str(caught.value)


def test_found_configs_keep_the_references_of_paths():
    run = config.parse_found(TEXT, "found.yaml", like=config.parse_yaml(TEXT, "run.yaml"))
    assert run.data.train == "${DATA}/train" and run.data.batch_size == 64
    assert run.unfilled(("data", "train")) == ["DATA"] and run.unfilled(("data", "test")) == []
    assert config.parse_yaml(config.to_yaml(run), "own.yaml").data.train == "/a/long/folder/train"


@pytest.mark.parametrize(
    "text, value",
    [("$${A}", "${A}"), ("$$${A}", "$${A}"), ("a$b{c}", "a$b{c}"), ("${A}${B:-c}}", "xc}"), ("${B:-}", "")],
)
def test_pieces_of_text(text, value):
    tree, references = fill({"key": text}, "here", {"A": "x"})
    assert tree == {"key": value}
    assert written(tree, references) == {"key": text}
    assert references == ({("key",): Reference(text, value)} if variables(text) else {})


def test_an_override_of_one_alias_leaves_the_other():
    text = TEXT + "sharding: {tables: {user: &kind row_wise}, default: *kind}\n"
    run = config.parse_yaml(text, "run.yaml", ["sharding.default=table_wise"])
    assert (run.sharding.default, run.sharding.tables["user"]) == ("table_wise", "row_wise")
