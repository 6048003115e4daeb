"""What a resumed run takes back: vocabularies that are whole, the newest checkpoint that is, and the best one whatever a kill left."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from interformer_rec.checkpoint.evaluated import Evaluated
from interformer_rec.checkpoint.read import read_state
from interformer_rec.checkpoint.retention import Checkpoints
from interformer_rec.config import run as config
from interformer_rec.storage import Storage
from interformer_rec.training import run
from interformer_rec.training.scoring import trained
from tests import forked
from tests.hostile.checkpoint_files import replace_file
from tests.hostile.conftest import trained_run
from tests.training.runs import records, save_config

__all__ = ["trained_run"]


@pytest.fixture
def copy(trained_run, tmp_path) -> Path:
    """A copy of the finished run."""
    shutil.copytree(trained_run, tmp_path / "run")
    return tmp_path / "run"


def go_on(folder: Path, steps: int, *overrides: str) -> None:
    """Resume until `steps`."""
    settings = [f"training.out={folder}", f"training.max_steps={steps}", *overrides]
    assert run.train(config.load(folder / "config.yaml", settings), resume=True) == 0


def shortened(path: Path) -> None:
    pq.write_table(pq.read_table(path).slice(0, 5), path)


DAMAGE = {
    "cut": lambda features: (features / "item_id.parquet").write_bytes(
        (features / "item_id.parquet").read_bytes()[:99]
    ),
    "shorter": lambda features: shortened(features / "item_id.parquet"),
    "gone": lambda features: (features / "user_id.parquet").unlink(),
    "fitted.json": lambda features: (features / "fitted.json").write_text('{"format": 3}'),
    "all": shutil.rmtree,
}


@pytest.mark.parametrize("how", DAMAGE)
def test_vocabularies_that_are_not_whole_are_taken_from_the_checkpoint(copy, how, capfd):
    features = copy / "features"
    before = {path.name: path.read_bytes() for path in features.iterdir()}
    DAMAGE[how](features)
    go_on(copy, 12)
    assert {path.name: path.read_bytes() for path in features.iterdir()} == before
    assert "are taken from checkpoint step-00000010" in capfd.readouterr().err
    assert records(copy, "valid")[-1]["step"] == 12


def test_vocabularies_that_are_whole_stay(copy, capfd):
    go_on(copy, 12)
    assert "are taken from checkpoint" not in capfd.readouterr().err


def changed_state(checkpoint: Path) -> None:
    state = json.loads((checkpoint / "state.json").read_text())
    state["interval"]["ranks"] = [[1.0, 2.0]]
    replace_file(checkpoint, "state.json", json.dumps(state).encode())


def other_sequences(checkpoint: Path) -> None:
    state = json.loads((checkpoint / "state.json").read_text())
    state["lengths"]["rows"] = {"another": [7]}
    replace_file(checkpoint, "state.json", json.dumps(state).encode())


NEWEST = {
    "manifest, a bit": lambda c: (c / "manifest.json").write_bytes(
        (c / "manifest.json").read_bytes().replace(b"1", b"3", 1)
    ),
    "manifest, deep": lambda c: (c / "manifest.json").write_bytes(b"[" * 100_000),
    "state, cut": lambda c: (c / "state.json").write_bytes((c / "state.json").read_bytes()[:100]),
    "state, of other labels": changed_state,
    "state, of other sequences": other_sequences,
    "vocabulary": lambda c: (c / "run/features/user_id.parquet").write_bytes(b"PAR1"),
}


@pytest.mark.parametrize("how", NEWEST)
def test_a_damaged_newest_one_is_passed_over_for_the_next(copy, how, capfd):
    newest = copy / "checkpoints" / "step-00000010"
    NEWEST[how](newest)
    go_on(copy, 11)
    error = capfd.readouterr().err
    assert "damaged checkpoint passed over: " in error and "continuing from" in error
    assert "step-00000008 at step 8" in error
    # What was given up is gone, and the one that training went on from is not.
    assert Checkpoints(copy / "checkpoints").newest_first() == ["step-00000011", "step-00000008", "step-00000004"]


def train_and_be_killed(path: str, method: str, calls: int) -> int:
    """Train until a method is called for the n-th time; there the process gets SIGKILL."""
    kind = {"tidy": Checkpoints, "write": Evaluated}[method]
    real, left = getattr(kind, method), [calls]

    def deadly(*args, **options):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **options)

    setattr(kind, method, deadly)
    return run.train(config.load(path))


@pytest.mark.parametrize("where, calls", [("write", 1), ("tidy", 2), ("tidy", 3)])
def test_a_kill_between_two_writes_loses_no_best(small, tmp_path, where, calls):
    """Killed before the first evaluation is noted; after it; and after the next checkpoint is whole, before older ones may go."""
    options = (
        "training.eval_every_steps=4",
        "training.checkpoint.keep=1",
        "training.monitor=logloss",
        "training.max_steps=16",
    )
    options = (*options, "optimizer.dense.lr=0.2", "optimizer.embedding.lr=0.5")  # the last steps make it worse
    path = save_config(small, tmp_path, *options)
    (killed,) = forked.run([{}], train_and_be_killed, str(path), where, calls)
    assert killed.code == -signal.SIGKILL, killed.printed
    folder = tmp_path / "run"
    assert run.train(small(*options), resume=True) == 0
    losses = {record["step"]: record["label/logloss"] for record in records(folder, "valid")}
    assert list(losses) == [4, 8, 12, 16] and min(losses, key=losses.__getitem__) < 16
    best = f"step-{min(losses, key=losses.__getitem__):08d}"
    assert Checkpoints(folder / "checkpoints").ranked().names == [best, "step-00000016"]
    found = json.loads((folder / "evaluation.json").read_text())
    assert found["valid"]["label/logloss"] == min(losses.values())
    assert found["valid"] == read_state(Storage.open(folder / "checkpoints" / best))["evaluation"]
    again = trained.evaluate(str(folder / "checkpoints" / best), small().data.test)
    assert found["test"]["label/logloss"] == again["label/logloss"]
    assert records(folder, "test")[-1]["step"] == int(best.removeprefix("step-"))
