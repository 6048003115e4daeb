"""A run folder belongs to one job while it trains: who is refused, and what a job does that lost it."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from interformer_rec.checkpoint.write import SaveError
from interformer_rec.config.run import RunConfig
from interformer_rec.distributed.environment import Environment
from interformer_rec.errors import InputError
from interformer_rec.planning.score.command import score_runs
from interformer_rec.storage import Storage
from interformer_rec.training import run
from interformer_rec.training.folder.lock import RunLock, RunLost, whoami
from interformer_rec.training.folder.lock_file import NAME
from interformer_rec.training.folder.mirror import Mirror
from interformer_rec.training.folder.run_folder import RunFolder
from interformer_rec.training.scoring import trained
from interformer_rec.training.trainer import Trainer
from tests.launch import on_ranks
from tests.s3 import s3_server
from tests.training.start.test_prepare import snapshot


def test_two_runs_with_one_place_for_checkpoints_meet(small: Callable[..., RunConfig], tmp_path: Path) -> None:
    lock = RunLock([Storage.open(tmp_path / "shared")], 60, print)
    lock.take()
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match=r"shared' is in use"):
        run.train(small(f"training.checkpoint.path={tmp_path}/shared", "training.max_steps=1"))
    assert snapshot(tmp_path) == before
    lock.release()


def test_a_job_ends_before_it_writes_where_another_one_writes(
    small: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock is taken over while it trains (as of a job that was suspended for long): no file changes from then on."""
    taken: dict[str, bytes | None] = {}
    segment = Trainer._segment

    def take_over(trainer: Trainer, stream: object, steps: int) -> int:
        result = segment(trainer, stream, steps)  # type: ignore[arg-type]
        if trainer.position.step > 12:
            (tmp_path / "run" / NAME).write_bytes(whoami(60).to_bytes())
            taken.update(snapshot(tmp_path / "run" / "checkpoints"))
        return result

    monkeypatch.setattr(Trainer, "_segment", take_over)
    # by the thread that trains, or by the one that writes where it is about to tidy
    with pytest.raises((RunLost, SaveError), match=r"run' is gone: another job took it over.*--resume"):
        run.train(small("training.eval_every_steps=12", "data.test=null"))
    assert "step-00000012/manifest.json" in taken
    left = snapshot(tmp_path / "run" / "checkpoints")
    assert left == {name: content for name, content in taken.items() if name != NAME}, "only its own lock is gone"
    assert (tmp_path / "run" / NAME).exists(), "the other job's lock stays"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_during_the_start_leaves_no_lock(
    small: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    before = signal.getsignal(number)
    monkeypatch.setattr(run, "prepare", lambda *args: os.kill(os.getpid(), number))
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit) as ended:
        run.train(small())
    assert number == signal.SIGINT or ended.value.code == 128 + number
    assert snapshot(tmp_path) == {} and signal.getsignal(number) == before


@pytest.mark.parametrize("owner, name", [(RunLock, "_take"), (RunFolder, "claim"), (Environment, "on_main")])
def test_a_signal_between_the_lock_and_what_follows_leaves_no_lock(
    small: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    """As soon as the file is there: before the rest of `claim`, before rank 0 tells the others, before `train` knows of it."""
    work = getattr(owner, name)

    def then_a_signal(*args: object) -> object:
        result = work(*args)
        if (tmp_path / "run" / NAME).exists():
            os.kill(os.getpid(), signal.SIGTERM)
        return result

    monkeypatch.setattr(owner, name, then_a_signal)
    with pytest.raises(SystemExit):
        run.train(small())
    assert snapshot(tmp_path) == {}


def test_a_run_folder_that_vanishes_ends_the_job_in_one_sentence(
    small: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = Trainer._segment

    def vanish(trainer: Trainer, stream: object, steps: int) -> int:
        result = segment(trainer, stream, steps)  # type: ignore[arg-type]
        os.rename(tmp_path / "run", tmp_path / "away")
        return result

    monkeypatch.setattr(Trainer, "_segment", vanish)
    with pytest.raises(RunLost, match=r"run' is gone: it was deleted or its storage was unmounted"):
        run.train(small("data.valid=null", "data.test=null"))
    assert not (tmp_path / "run").exists()


def test_readers_take_no_lock(small: Callable[..., RunConfig], tmp_path: Path) -> None:
    assert run.train(small("training.max_steps=1", "data.valid=null")) == 0
    lock = RunLock([Storage.open(tmp_path / "run")], 60, print)
    lock.take()
    assert trained.evaluate(str(tmp_path / "run"))["rows"] == 150
    lock.release()


def test_a_relative_place_for_checkpoints_is_in_the_run_folder(
    small: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the run is started, and wherever the run folder is moved to."""

    def place(value: str, path: Path | None = None) -> str:
        return RunFolder(small(f"training.checkpoint.path={value}"), path).checkpoints.storage.location

    for folder in (tmp_path, Path("/")):
        monkeypatch.chdir(folder)
        assert place("ck/rel") == f"{tmp_path}/run/ck/rel"
        assert place("ck/rel", tmp_path / "moved") == f"{tmp_path}/moved/ck/rel"
        assert place("/abs/ck") == "/abs/ck" and place("memory://ck/x") == "memory://ck/x"
    monkeypatch.chdir(tmp_path)
    assert place("ck", Path("moved")) == f"{tmp_path}/moved/ck"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert place("~/ck") == f"{tmp_path}/home/ck"


@pytest.fixture
def store() -> Iterator[str]:
    """A place that is not on this machine's file system."""
    name = f"run-folder-test-{uuid.uuid4().hex}"
    yield f"memory://{name}"
    memory = fsspec.filesystem("memory")
    if memory.exists(f"/{name}"):
        memory.rm(f"/{name}", recursive=True)


def test_a_run_in_a_store_trains_resumes_and_is_used_from_there(
    small: Callable[..., RunConfig],
    store: str,
    synthetic: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    out = f"{store}/run"
    overrides = ("training.epochs=1", f"training.out={store}/{{name}}", "name=run", "training.log_every_steps=1")
    assert run.train(small(*overrides, "training.max_steps=5")) == 0
    folder = Storage.open(out)
    names = {"config.yaml", "features", "checkpoints", "metrics.jsonl", "tensorboard", "data.json", "plan.json", "environment.json",
             "measured.json", "evaluation.json", "report.html", "complete.json"}  # fmt: skip
    assert set(folder.names()) == names
    with pytest.raises(InputError, match=rf"'{out}' already holds a run"):
        run.train(small(*overrides))
    assert run.train(small(*overrides, "training.max_steps=8"), resume=True) == 0
    records = [json.loads(line) for line in folder.get("metrics.jsonl").splitlines()]
    assert [record["step"] for record in records if record["split"] == "train"] == list(range(1, 9))
    assert set(folder.names()) == names, "the lock is gone"
    assert list(tmp_path.iterdir()) == [], "nothing is made in the working folder"
    test = json.loads(folder.get("evaluation.json"))["test"]
    assert trained.evaluate(out, trust=True)["label/auc"] == test["label/auc"]
    done = trained.predict(out, str(synthetic / "test.parquet"), f"{store}/scores.parquet")
    assert done["rows"] == 150 and Storage.open(store).size("scores.parquet")
    capfd.readouterr()
    assert score_runs([out], as_json=True, trust=True) == 0
    assert json.loads(capfd.readouterr().out)["runs"][0]["run"] == out


def test_a_refused_start_changes_no_file_in_a_store(small: Callable[..., RunConfig], store: str) -> None:
    out = f"training.out={store}/run"
    with pytest.raises(InputError, match="/nowhere"):
        run.train(small(out, "data.valid=/nowhere"))
    memory = fsspec.filesystem("memory")
    assert [path for path in memory.find(store) if memory.isfile(path)] == []
    assert run.train(small(out, "training.max_steps=1", "data.valid=null", "data.test=null")) == 0
    before = {path: memory.cat(path) for path in memory.find(store)}
    for wrong in ("data.valid=/nowhere", "model.d=16"):
        with pytest.raises(InputError):
            run.train(small(out, wrong), resume=True)
        assert {path: memory.cat(path) for path in memory.find(store)} == before
    lock = RunLock([Storage.open(f"{store}/run")], 60, print)
    lock.take()
    with pytest.raises(InputError, match="is in use"):
        run.train(small(out), resume=True)
    lock.release()
    assert {path: memory.cat(path) for path in memory.find(store)} == before


@pytest.mark.parametrize("on_error", ["stop", "continue"])
def test_files_that_cannot_be_sent_end_the_run_or_not(
    small: Callable[..., RunConfig],
    store: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    on_error: str,
) -> None:
    send = Mirror._send

    def fail(mirror: Mirror, name: str) -> None:
        if name == "metrics.jsonl":
            raise PermissionError(errno.EACCES, "no more")
        send(mirror, name)

    monkeypatch.setattr(Mirror, "_send", fail)
    config = small(
        f"training.out={store}/run",
        "training.max_steps=3",
        "data.test=null",
        f"training.checkpoint.on_error={on_error}",
    )
    if on_error == "stop":
        with pytest.raises(SaveError, match=rf"could not be written to '{store}/run' \(.*no more\); they are in '/"):
            run.train(config)
    else:
        assert run.train(config) == 0
    said = capfd.readouterr().err
    kept = Path(re.findall(r"they are in '(.*?)'", said)[0])
    assert (kept / "metrics.jsonl").exists()
    shutil.rmtree(kept)
    assert Storage.open(f"{store}/run/checkpoints/step-00000003").size("manifest.json")


def _unsent(env: Environment, config: RunConfig) -> str:
    def fail(mirror: Mirror, name: str) -> None:
        raise PermissionError(errno.EACCES, f"no more {name}")

    Mirror._send = fail  # type: ignore[method-assign]  # of this process, which ends with the test
    folder = RunFolder(config)
    env.on_main(lambda: folder.claim(False))
    if env.is_main:
        folder.path.mkdir()
        (folder.path / "plan.json").write_text("{}")
    folder.saved(lambda record: None, {})  # as Saver.wait calls it, on every rank
    try:
        folder.require(env)
    except SaveError as error:
        return str(error)
    finally:
        shutil.rmtree(folder.path, ignore_errors=True)
    return "no error"


def test_files_that_cannot_be_sent_end_every_rank(small: Callable[..., RunConfig], store: str) -> None:
    one, other = on_ranks(2, _unsent, small(f"training.out={store}/run"))
    assert one == other and "no more plan.json" in one


def test_a_file_uri_is_the_folder_itself(small: Callable[..., RunConfig], tmp_path: Path) -> None:
    assert run.train(small(f"training.out=file://{tmp_path}/uri", "training.max_steps=1", "data.valid=null")) == 0
    assert (tmp_path / "uri" / "report.html").exists()
    assert trained.evaluate(f"file://{tmp_path}/uri", trust=True)["rows"] == 150


def test_a_run_in_s3_keeps_its_server_s_address(small: Callable[..., RunConfig]) -> None:
    with s3_server() as server:
        out = f"training.out={server.uri('runs/{name}')}"
        assert run.train(small(out, "name=one", "training.max_steps=2", "data.test=null")) == 0
        folder = Storage.open(server.uri("runs/one"))
        assert {"config.yaml", "report.html", "complete.json", "checkpoints", "features"} <= set(folder.names())
        assert not [
            name for name in (*folder.names(), *folder.folder("checkpoints").names()) if name.startswith("lock")
        ]
        assert trained.evaluate(server.uri("runs/one"), str(small().data.test))["rows"] == 150
