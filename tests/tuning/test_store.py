"""Storages of studies: a journal with half a line, several writers of one SQLite file, and URIs that lead nowhere."""

from __future__ import annotations

import threading
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from interformer_rec.errors import InputError
from interformer_rec.tuning.store import JOURNAL, open_store


def test_half_a_line_of_a_worker_that_was_killed_is_cut_off(tmp_path: Path):
    store, where = open_store(None, tmp_path)
    assert where == repr(str(tmp_path / JOURNAL))
    study = optuna.create_study(storage=store, study_name="s")
    study.tell(study.ask(), 1.0)
    whole = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(whole + b'{"op_code":4,"worker')
    again = optuna.load_study(study_name="s", storage=open_store(None, tmp_path)[0])
    assert (tmp_path / JOURNAL).read_bytes() == whole
    again.tell(again.ask(), 2.0)
    study.tell(study.ask(), 3.0)  # who had it open goes on
    assert [trial.value for trial in again.trials] == [1.0, 2.0, 3.0]
    (tmp_path / JOURNAL).write_bytes(b'{"op')
    open_store(None, tmp_path)
    assert (tmp_path / JOURNAL).read_bytes() == b""


def test_the_lock_of_a_journal_leads_to_it_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A lock that was left behind is seen to be old by the time of the file that it links to."""
    monkeypatch.chdir(tmp_path)
    store, _ = open_store("here.journal", Path("out"))
    store._backend._lock.acquire()  # type: ignore[attr-defined]
    assert (tmp_path / "here.journal.lock").resolve() == tmp_path / "here.journal"
    store._backend._lock.release()  # type: ignore[attr-defined]


def test_of_many_that_take_one_waiting_trial_of_an_sqlite_file_one_gets_it(tmp_path: Path):
    uri = f"sqlite:///{tmp_path / 'study.db'}"
    workers = 4
    stores: list[optuna.storages.BaseStorage] = []
    began = threading.Barrier(workers)

    def make() -> None:
        began.wait()
        stores.append(open_store(uri, tmp_path)[0])  # all make the tables

    _together(make, workers)
    study = optuna.create_study(storage=stores[0], study_name="s")
    for _ in range(3):
        study.enqueue_trial({})
    taken: list[int] = []

    def take(store: optuna.storages.BaseStorage) -> None:
        mine = optuna.load_study(study_name="s", storage=store)
        began.wait()
        for _ in range(2):
            taken.append(mine.ask().number)

    threads = [threading.Thread(target=take, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(2 * workers))
    assert all(trial.state == TrialState.RUNNING for trial in study.trials)


def _together(function, number: int) -> None:
    threads = [threading.Thread(target=function) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(
    "uri", ["nosuch://x", "sqlite:////no/such/folder/x.db", "mysql+nodriver://u:hidden-word@h/x", "sqlite:/x"]
)
def test_a_uri_that_cannot_be_opened(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("interformer_rec.tuning.store.PAUSE", 0.001)
    with pytest.raises(InputError, match="--storage") as error:
        open_store(uri, tmp_path)
    assert "hidden-word" not in str(error.value)


def test_a_file_that_is_no_journal(tmp_path: Path):
    (tmp_path / "x").write_text("name: ml\nother: 1\n")
    with pytest.raises(InputError, match="cannot be read as the journal of a study"):
        open_store(str(tmp_path / "x"), tmp_path)
    with pytest.raises(InputError, match="is a folder"):
        open_store(str(tmp_path), tmp_path)
    assert (tmp_path / "x").read_text() == "name: ml\nother: 1\n"
