"""Configs of runs that anybody may have written: nothing of the environment gets in, and only paths on this machine are opened."""

import pytest

from interformer_rec import strict_yaml
from interformer_rec.config import run as config
from interformer_rec.config.found import (
    at_home,
    data_to_evaluate,
    is_local,
    require_open,
    run_folder_config,
    with_stores,
)
from interformer_rec.errors import InputError
from interformer_rec.storage import Storage

TEXT = """
name: run
data: {train: "s3://elsewhere/${SECRET}", test: TEST, batch_size: BATCH}
features: {tables: {user: {}}, ids: [user], labels: [click]}
model: {kind: fm}
training: {checkpoint: {path: PLACE}}
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function: what stands in the config -> a run folder with it."""
    monkeypatch.setenv("SECRET", "topsecret")
    monkeypatch.setenv("N", "64")

    def write(test="data/test.parquet", batch="64", place="null"):
        text = (
            TEXT.replace("TEST", f"'{test}'")
            .replace("BATCH", f"'{batch}'" if "$" in batch else batch)
            .replace("PLACE", place)
        )
        (tmp_path / "config.yaml").write_text(text)
        return str(tmp_path)

    return write


def test_a_path_on_this_machine_is_opened(run):
    path = run()
    found = run_folder_config(path, trust=False)
    require_open(found, ("training", "checkpoint", "path"), path, "")
    assert data_to_evaluate(path, found, trust=False) == "data/test.parquet"


@pytest.mark.parametrize(
    "test, message",
    [
        (
            "s3://bucket/x",
            r"data.test of run .* is 's3://bucket/x': a place beyond this machine .*--data PATH.*--trust-run",
        ),
        (
            "https://host/${SECRET}",
            r"is 'https://host/\$\{SECRET\}': .* not filled in from the environment.*SECRET set as in",
        ),
        (
            "${SECRET:-data}/x",
            r"not filled in from the environment.*--data PATH.*--trust-run, with SECRET set as in training",
        ),
    ],
)
def test_another_path_needs_the_user(run, test, message):
    path = run(test)
    found = run_folder_config(path, trust=False)
    with pytest.raises(InputError, match=message) as caught:
        data_to_evaluate(path, found, trust=False)
    assert "topsecret" not in str(caught.value)
    own = run_folder_config(path, trust=True)
    assert data_to_evaluate(path, own, trust=True) == test.replace("${SECRET}", "topsecret").replace(
        "${SECRET:-data}", "topsecret"
    )


def test_the_data_of_a_checkpoint_needs_the_user(run, tmp_path):
    found = run_folder_config(run(), trust=False)
    with pytest.raises(
        InputError, match=r"files that only a checkpoint or a run in a store names are.*--data PATH.*--trust-run"
    ):
        data_to_evaluate(str(tmp_path / "checkpoints" / "step-1"), found, trust=False)
    assert data_to_evaluate(str(tmp_path / "checkpoints" / "step-1"), found, trust=True) == "data/test.parquet"


def test_a_place_of_checkpoints_beyond_this_machine_needs_the_user(run):
    path = run(place="s3://bucket/checkpoints")
    with pytest.raises(InputError, match=r"training.checkpoint.path of run .*'s3://bucket/checkpoints'.* Name it\. If"):
        require_open(run_folder_config(path, trust=False), ("training", "checkpoint", "path"), path, "Name it")


def test_a_number_of_the_environment_needs_the_user(run):
    path = run(batch="${N}")
    with pytest.raises(
        InputError, match=r"data.batch_size is '\$\{N\}'.*set N as it was in training and add --trust-run"
    ):
        run_folder_config(path, trust=False)
    own = run_folder_config(path, trust=True)
    assert own.data.batch_size == 64
    text = (config.to_yaml(own)).encode()
    assert config.parse_found(text, "saved", like=own).data.batch_size == 64  # --resume: the user's config says it


def test_what_is_not_to_be_opened_is_left_out(run, tmp_path):
    found = at_home(run_folder_config(run(), trust=False), str(tmp_path))
    assert (found.data.train, found.data.test, found.run_dir) == (None, "data/test.parquet", tmp_path)


def with_events(run, store: str, tmp_path) -> str:
    """A run folder whose config names a store."""
    path = run()
    tree = strict_yaml.read(f"{path}/config.yaml", "config")
    tree["data"]["events"] = {"user": "user", "time": "at", "stores": {"seen": store}, "cache": "/anywhere"}
    tree["features"]["tables"]["item"] = {}
    tree["features"]["sequences"] = [{"name": "seen", "max_length": 3, "columns": ["item"]}]
    (tmp_path / "config.yaml").write_text(strict_yaml.dump(tree))
    return path


def test_a_store_on_this_machine_is_opened_and_unpacked_where_this_machine_does_so(run, tmp_path):
    path = with_events(run, "stores/seen", tmp_path)
    found = run_folder_config(path, trust=False)
    assert with_stores(path, found, trust=False).data.events.stores == {"seen": "stores/seen"}
    assert with_stores(path, found, trust=False).data.events.cache is None
    assert with_stores(path, found, trust=True) is found
    assert at_home(found, path).data.events is not None


@pytest.mark.parametrize(
    "store, message",
    [
        (
            "s3://bucket/x",
            r"data.events.stores.seen of run .* a place beyond this machine .*--set data.events=.*--trust-run",
        ),
        ("${SECRET}/x", r"not filled in from the environment.*--trust-run, with SECRET set as in training"),
    ],
)
def test_other_stores_of_a_run_wait(run, tmp_path, store, message):
    path = with_events(run, store, tmp_path)
    found = run_folder_config(path, trust=False)
    with pytest.raises(InputError, match=message):
        with_stores(path, found, trust=False)
    assert at_home(found, path).data.events is None
    own = run_folder_config(path, trust=True)
    assert own.data.events.stores["seen"] == store.replace("${SECRET}", "topsecret")


def test_stores_that_only_a_checkpoint_names_are_not_opened(run, tmp_path):
    found = run_folder_config(with_events(run, "stores/seen", tmp_path), trust=False)
    with pytest.raises(
        InputError, match=r"only the checkpoint or a run in a store names.*--set data.events=.*--trust-run"
    ):
        with_stores(str(tmp_path / "checkpoints" / "step-1"), found, trust=False)


@pytest.mark.parametrize("path", ["a/b", "/a", "file:///a", "~/a", "a*/?.parquet"])
def test_local(path):
    assert is_local(path)


@pytest.mark.parametrize(
    "path", ["s3://a", "simplecache::s3://a", "file://s3://a", "http://h/a", "filecache::file:///a"]
)
def test_not_local(path):
    assert not is_local(path)


def test_the_local_data_of_a_run_in_a_store_needs_the_user():
    Storage.open("memory://found-config/run").put(
        "config.yaml", TEXT.replace("BATCH", "64").replace("PLACE", "null").encode()
    )
    path = "memory://found-config/run"
    with pytest.raises(InputError, match=r"a run in a store names are not opened.*--data PATH"):
        data_to_evaluate(path, run_folder_config(path, trust=False), trust=False)


def test_a_config_that_is_far_too_large_is_not_read(tmp_path):
    with (tmp_path / "config.yaml").open("wb") as file:
        file.truncate(strict_yaml.MAX_BYTES + 1)
    with pytest.raises(InputError, match="8 MiB are the most that is read"):
        run_folder_config(str(tmp_path), trust=False)
