"""Runs that stop, by a signal, a kill or an error, and go on: the same weights, the same metrics, every row once."""

import os
import shutil
import signal
import time

import fsspec
import pytest
import torch

from interformer_rec.checkpoint.manifest import Manifest
from interformer_rec.checkpoint.retention import Checkpoints
from interformer_rec.checkpoint.write import SaveError
from interformer_rec.config import run as config
from interformer_rec.errors import InputError
from interformer_rec.storage import Storage
from interformer_rec.training import run
from interformer_rec.training.scoring import trained
from tests.forked import begin, command
from tests.training.runs import records, save_config


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_saves_and_resume_finishes(small, tmp_path, number):
    path = save_config(small, tmp_path, "training.epochs=400", "training.log_every_steps=1")
    folder = tmp_path / "run"
    process = begin("train", path)
    while process.exitcode is None and not ((folder / "metrics.jsonl").exists() and records(folder, "valid")):
        time.sleep(0.05)
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == 128 + number
    step = records(folder, "train")[-1]["step"]
    assert Checkpoints(folder / "checkpoints").newest_first()[0] == f"step-{step:08d}"
    assert run.train(config.load(folder / "config.yaml", [f"training.max_steps={step + 7}"]), resume=True) == 0
    steps = [r["step"] for r in records(folder, "train")]
    assert steps == list(range(1, step + 8))


def test_a_killed_run_resumes_from_its_last_checkpoint(small, tmp_path):
    path = save_config(small, tmp_path, "training.epochs=400", "training.log_every_steps=1", "data.test=null")
    folder = tmp_path / "run"
    process = begin("train", path)
    while process.exitcode is None and not list((folder / "checkpoints").glob("*/manifest.json")):
        time.sleep(0.01)
    process.kill()  # in training, in an evaluation or in a save: wherever it is
    process.join()
    last = max(int(found.parent.name.split("-")[1]) for found in (folder / "checkpoints").glob("*/manifest.json"))
    assert last >= 12  # of the first epoch
    assert run.train(config.load(folder / "config.yaml", [f"training.max_steps={last + 3}"]), resume=True) == 0
    assert records(folder, "train")[-1]["step"] == last + 3
    assert all((found / "manifest.json").exists() for found in (folder / "checkpoints").glob("step-*"))


def test_resumed_is_the_same_run_bit_for_bit(small, tmp_path):
    overrides = (
        "model.dropout=0.2",
        "training.eval_every_steps=7",
        "optimizer.schedule.warmup_steps=9",
        "optimizer.dense.ema=0.9",
        "data.test=null",
    )
    whole, parts = f"training.out={tmp_path}/whole", f"training.out={tmp_path}/parts"
    assert run.train(small(*overrides, whole)) == 0
    assert run.train(small(*overrides, parts, "training.max_steps=10")) == 0  # in mid-epoch
    assert run.train(small(*overrides, parts), resume=True) == 0
    for name in ("rank-00000.safetensors", "dense.safetensors"):
        ends = [(tmp_path / part / "checkpoints" / "step-00000024" / name).read_bytes() for part in ("whole", "parts")]
        assert ends[0] == ends[1], name
    assert b"average|" in ends[0]  # of the dense weights: compared too


def test_resume_on_more_ranks_reads_the_unread_rows_once(small, tmp_path):
    assert run.train(small("training.epochs=1", "training.max_steps=5", "data.test=null")) == 0
    path = save_config(small, tmp_path, "training.epochs=1", "data.test=null")
    ended = command(2, "train", path, "--resume")
    assert [rank.code for rank in ended] == [0, 0], ended
    done = records(tmp_path / "run", "train")
    assert sum(r["rows"] for r in done) == 1501
    assert done[-1]["step"] == 5 + 4  # 1501 - 5 * 128 = 861 rows: 4 steps of 2 x 128


def test_resume_passes_over_a_damaged_checkpoint_and_names_it(small, tmp_path, capfd):
    overrides = ("training.eval_every_steps=4", "data.test=null", "training.checkpoint.keep=3")
    assert run.train(small(*overrides, "training.max_steps=10")) == 0
    folder = tmp_path / "run"
    steps = sorted(path.name for path in (folder / "checkpoints").glob("step-*"))
    assert steps[-3:] == ["step-00000004", "step-00000008", "step-00000010"]
    (folder / "checkpoints" / "step-00000010" / "dense.safetensors").write_bytes(b"half a file")
    assert run.train(small(*overrides, "training.max_steps=12"), resume=True) == 0
    said = capfd.readouterr().err
    assert "dense.safetensors has 11 bytes" in said and "step-00000008 at step 8" in said
    with pytest.raises(InputError, match=r"state.json is not what was written"):
        (folder / "checkpoints" / "step-00000012" / "state.json").write_bytes(
            (folder / "checkpoints" / "step-00000012" / "state.json").read_bytes().replace(b'"epoch"', b'"EPOCH"')
        )
        trained.evaluate(str(folder / "checkpoints" / "step-00000012"), trust=True)


def test_a_checkpoint_that_cannot_be_written_stops_the_run_or_not(small, tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "step-00000003").write_text("a file where the folder should be")
    with pytest.raises(SaveError, match=r"was not written: rank 0: .*step-00000003"):
        run.train(small("training.max_steps=3", "data.test=null"))
    (tmp_path / "run" / "config.yaml").unlink()
    (tmp_path / "run" / "checkpoints").mkdir(exist_ok=True)
    (tmp_path / "run" / "checkpoints" / "step-00000003").write_text("a file where the folder should be")
    with pytest.raises(SaveError, match="trained to step 3, and has no checkpoint"):
        run.train(small("training.max_steps=3", "data.test=null", "training.checkpoint.on_error=continue"))
    assert (tmp_path / "run" / "report.html").exists()


def test_older_ones_that_cannot_be_removed_leave_the_checkpoint(small, tmp_path, monkeypatch):
    remove = Storage.remove

    def refuse(storage, name):
        if name.startswith("step-00000099"):
            raise PermissionError(13, "not yours", name)
        remove(storage, name)

    monkeypatch.setattr(Storage, "remove", refuse)
    (tmp_path / "run" / "checkpoints" / "step-00000099").mkdir(parents=True)
    with pytest.raises(SaveError, match=r"step-00000003' was written, but older ones were not removed: rank 0"):
        run.train(small("training.max_steps=3", "data.test=null"))
    assert (tmp_path / "run" / "checkpoints" / "step-00000003" / "manifest.json").exists()


WHOLE = ("data.test=null", "training.log_every_steps=4", "training.checkpoint.keep=99", "model.dropout=0.2")


def strip_times(record: dict) -> dict:
    timed = ("seconds", "samples_per_second", "data_wait_share", "stall_seconds", "write_seconds")
    return {key: value for key, value in record.items() if key not in timed}


@pytest.mark.parametrize("asynchronous, full_every", [(True, 1), (False, 3)])
def test_a_run_that_lost_its_end_repeats_it_exactly(small, tmp_path, asynchronous, full_every):
    """From a checkpoint in the middle of a log interval, full or incremental, as after a kill: weights and all records."""
    overrides = (*WHOLE, "training.checkpoint.every_steps=5", f"training.checkpoint.asynchronous={asynchronous}")
    overrides = (*overrides, f"training.checkpoint.full_every={full_every}")
    assert run.train(small(*overrides)) == 0
    whole, again = tmp_path / "run", tmp_path / "again"
    shutil.copytree(whole, again)
    for checkpoint in (again / "checkpoints").glob("step-*"):
        if int(checkpoint.name.split("-")[1]) > 10:  # 0 5 10 | 12 15 20 24: 10 is incremental with full_every=3
            shutil.rmtree(checkpoint)
    assert (Manifest.read(Storage.open(again / "checkpoints" / "step-00000010")).base is None) is (full_every == 1)
    (again / "metrics.jsonl").unlink()
    assert run.train(small(*overrides, f"training.out={again}"), resume=True) == 0
    for split in ("train", "valid"):
        expected = [strip_times(record) for record in records(whole, split) if record["step"] > 10]
        assert [strip_times(record) for record in records(again, split)] == expected
    ends = [Manifest.read(Storage.open(folder / "checkpoints" / "step-00000024")) for folder in (whole, again)]
    # An incremental one's tables are compared by the metrics above.
    for name in ("dense.safetensors", "rank-00000.safetensors") if full_every == 1 else ("dense.safetensors",):
        one, other = (manifest.tensor_file(name) for manifest in ends)
        assert one.keys() == other.keys() != []
        assert all(torch.equal(one.tensor(key), other.tensor(key)) for key in one.keys()), name  # noqa: SIM118


def test_checkpoints_in_a_store_are_all_that_another_machine_needs(small, tmp_path):
    """The run folder is lost; vocabularies, config and the run's place come out of the store."""
    uri = "memory://resume-test/run"
    overrides = ("data.test=null", "training.epochs=1", f"training.checkpoint.path={uri}")
    assert run.train(small(*overrides, "training.max_steps=7")) == 0
    scores = trained.evaluate(str(tmp_path / "run"), trust=True)
    shutil.rmtree(tmp_path / "run")
    assert strip_times(trained.evaluate(f"{uri}/step-00000007", trust=True)) == strip_times(scores)
    with pytest.raises(InputError, match=r"memory://resume-test/run' already holds checkpoints of a run.*--resume"):
        run.train(small(*overrides))
    assert run.train(small(*overrides), resume=True) == 0
    done = records(tmp_path / "run", "train")
    assert done[0]["step"] == 8 and done[-1]["step"] == 12
    assert [record["step"] for record in records(tmp_path / "run", "checkpoint")] == [12]
    fsspec.filesystem("memory").rm("/resume-test", recursive=True)
