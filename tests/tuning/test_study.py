"""Who does which trial: workers on one storage, a budget for all of them, and trials whose worker is gone. Nothing is trained here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from interformer_rec.errors import InputError
from interformer_rec.tuning import study as study_module
from interformer_rec.tuning.question import Question
from interformer_rec.tuning.store import open_store
from interformer_rec.tuning.study import PLACE, WORKER, Begun, Study

Asked = Callable[..., Question]
STORES = ["journal", "sqlite"]


def join(question: Question, kind: str = "journal", prune: bool = True) -> Study:
    """A worker with connections of its own."""
    uri = None if kind == "journal" else f"sqlite:///{question.out.parent / 'study.db'}"
    return Study(question, *open_store(uri, question.out), prune)


def value(begun: Begun) -> float:
    """What training would give: any function of the settings."""
    return float(begun.settings.get("optimizer.dense.lr", 0.5)) + begun.settings.get("model.d", 0)


def do(study: Study, budget: int, limit: int = 99) -> list[Begun]:
    """Trials until none is left."""
    done: list[Begun] = []
    while len(done) < limit and (begun := study.begin(budget)) is not None:
        assert study.end(begun, TrialState.COMPLETE, value(begun), ended="done")
        done.append(begun)
    return done


def settings(study: Study) -> list[str]:
    return [trial.user_attrs["settings"] for trial in study.trials()]


def test_a_study_that_is_interrupted_goes_on_as_it_would_have(asked: Asked, tmp_path: Path):
    whole = join(asked())
    assert len(do(whole, 12)) == 12 and whole.begin(12) is None
    second = ask_elsewhere(asked, tmp_path)
    do(join(second), 12, limit=4)
    lost = join(second).begin(12)
    assert lost is not None and lost.settings
    after = join(second)
    pretend_gone(after)
    again = after.begin(12)
    assert again is not None and (again.run, again.settings) == (lost.run, lost.settings)
    assert after.retried == 1 and again.trial.number == lost.trial.number + 1
    assert after.end(again, TrialState.COMPLETE, value(again), ended="done")
    assert not join(second).end(lost, TrialState.COMPLETE, 1.0), "its place was taken"
    do(after, 12)
    by_place = {trial.user_attrs[PLACE]: trial.user_attrs["settings"] for trial in after.trials()}
    assert [by_place[place] for place in range(12)] == settings(whole)


def ask_elsewhere(asked: Asked, tmp_path: Path) -> Question:
    question = asked()
    object.__setattr__(question, "out", tmp_path / "second")
    return question


def pretend_gone(study: Study) -> None:
    """The worker of every trial that runs has an id that no process has."""
    for trial in study.optuna.get_trials(states=(TrialState.RUNNING,)):
        gone = {**trial.user_attrs[WORKER], "pid": 2**22 + 1}
        study.optuna._storage.set_trial_user_attr(trial._trial_id, WORKER, gone)


@pytest.mark.parametrize("kind", STORES)
def test_a_lost_trial_is_retried_once_though_two_workers_find_it(asked: Asked, kind: str):
    question = asked()
    first = join(question, kind)
    do(first, 9, limit=2)
    lost = first.begin(9)
    assert lost is not None
    lost.trial.report(0.5, 3)
    pretend_gone(first)
    workers = [join(question, kind) for _ in range(2)]
    both = threading.Barrier(2)

    def look(worker: Study) -> None:
        both.wait()
        worker.give_back_lost()

    threads = [threading.Thread(target=look, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    waiting = [trial for trial in workers[0].trials() if trial.state == TrialState.WAITING]
    assert len(waiting) == 1 and waiting[0].intermediate_values == {3: 0.5}
    again = workers[0].begin(3)  # the budget has it already
    assert again is not None and (again.run, again.settings) == (lost.run, lost.settings)
    assert workers[1].begin(3) is None


@pytest.mark.parametrize("kind", STORES)
def test_workers_that_begin_together_do_each_trial_once_and_no_more_than_there_are(asked: Asked, kind: str):
    question, budget, workers = asked(), 7, 3
    both = threading.Barrier(workers)

    def work() -> None:
        both.wait()
        do(join(question, kind), budget)

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    study = join(question, kind)
    trials = study.trials()
    assert len(trials) == budget and all(trial.state == TrialState.COMPLETE for trial in trials)
    assert len(set(settings(study))) == budget and settings(study).count("{}") == 1
    assert len({trial.user_attrs[PLACE] for trial in trials}) == budget
    assert len({trial.user_attrs["run"] for trial in trials}) == budget


def test_a_worker_on_another_machine_is_gone_when_it_was_silent_for_long(asked: Asked, monkeypatch: pytest.MonkeyPatch):
    now = [1000.0]
    monkeypatch.setattr(study_module.time, "monotonic", lambda: now[0])
    question = asked()
    far = join(question)
    far._me = {**far._me, "machine": "elsewhere"}
    begun = far.begin(5)
    assert begun is not None
    here = join(question)
    here.give_back_lost()
    for beat in range(4):  # it is slow, and gives signs of life
        now[0] += 0.9 * study_module.SILENT
        begun.trial.set_user_attr(study_module.BEAT, beat)
        here.give_back_lost()
    assert here.retried == 0
    now[0] += 0.9 * study_module.SILENT
    here.give_back_lost()
    assert here.retried == 0
    now[0] += 0.2 * study_module.SILENT
    here.give_back_lost()
    assert here.retried == 1
    again = here.begin(5)
    assert again is not None and again.run == begun.run


def test_signs_of_life_are_written_while_a_trial_runs(asked: Asked, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(study_module, "BEAT_SECONDS", 0.02)
    study = join(asked())
    begun = study.begin(1)
    assert begun is not None
    with study.signs_of_life(begun.trial):
        until = time.monotonic() + 60
        while begun.trial.user_attrs.get(study_module.BEAT, 0) < 2 and time.monotonic() < until:
            time.sleep(0.01)
    assert begun.trial.user_attrs[study_module.BEAT] >= 2


def test_the_first_trial_is_the_config_and_all_lie_in_their_ranges(asked: Asked):
    study = join(asked())
    first, *others = do(study, 10)
    assert first.settings == {} and study.trials()[0].params == {
        "optimizer.dense.lr": 1e-3,
        "model.d": "8",
        "model.heads": "2",
    }
    for begun in others:
        assert 1e-4 <= begun.settings["optimizer.dense.lr"] <= 1e-1
        assert begun.settings["model.d"] in (8, 12) and begun.settings["model.heads"] in (2, 4)
    best = study.best()
    assert best is not None and best.value == max(map(value, [first, *others]))
    outside = join(asked("optimizer.dense.lr=1.0", "name=outside"))
    begun = outside.begin(1)
    assert begun is not None and set(begun.trial.params) == {"model.d", "model.heads"}  # Optuna cannot hold 1.0


def test_a_study_of_another_config_or_space_is_not_joined(asked: Asked):
    join(asked())
    with pytest.raises(InputError, match=r"data\.batch_size was 64 and is now 32"):
        join(asked("data.batch_size=32"))
    question = asked()
    object.__setattr__(question, "space", {key: question.space[key] for key in ("model.d",)})
    with pytest.raises(InputError, match="the space was"):
        join(question)
    assert optuna.get_all_study_names(open_store(None, question.out)[0]) == ["synthetic"]
