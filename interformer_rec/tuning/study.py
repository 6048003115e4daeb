"""A study in its storage, as one worker sees it. In: a storage, a question; out: trials to do, and what became of them.

Several workers share a study. What it holds of a trial beside Optuna's own is one user attribute each: see TrialFacts. A trial whose
worker is gone is lost: it counts no longer, and one with the same settings and the same run folder waits in its place.
"""

import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from interformer_rec.errors import say
from interformer_rec.training.folder.lock import process_start, whoami
from interformer_rec.training.folder.lock_file import SILENT_SECONDS
from interformer_rec.tuning.question import Question
from interformer_rec.tuning.sampling import PLACE, pruner, sampler, suggest

STATED = "stated"  # user attribute of a study: Question.stated
WORKER, BEAT, LOST = "worker", "beat", "lost"
RUN, SETTINGS, ENDED, WHY, EPOCH, SECONDS = "run", "settings", "ended", "why", "epoch", "seconds"
INHERITED = (PLACE, RUN, SETTINGS)  # by the trial that takes a lost one's place
BEAT_SECONDS = 15.0
SILENT = 120.0  # seconds without a sign of life, after which a worker on another machine counts as gone


@dataclass(frozen=True)
class Begun:
    """A trial that this worker has to do."""

    trial: Trial
    run: str  # the name of its run folder, and its number for people
    settings: dict[str, Any]


class Study:
    """The trials of a study; `begin` and `end` are all that changes them."""

    def __init__(self, question: Question, storage: optuna.storages.BaseStorage, where: str, prune: bool) -> None:
        """Begin the study or join it. `where`: the storage, for people. Raises InputError where it is of another question."""
        self.question, self.name = question, question.base.name
        self.optuna = optuna.create_study(
            storage=storage,
            study_name=self.name,
            direction="maximize" if question.higher else "minimize",
            sampler=sampler(self.name, question.space, question.own),
            pruner=pruner(prune),
            load_if_exists=True,
        )
        stated = self.optuna.user_attrs.get(STATED)
        if stated is None:
            self.optuna.set_user_attr(STATED, question.stated())
        else:
            question.require_same(stated, where)
        me = whoami(SILENT_SECONDS)
        self._me = {"host": socket.gethostname(), "machine": me.machine, "pid": me.pid, "start": me.process_start}
        self._seen: dict[int, tuple[Any, float]] = {}  # number -> a sign of life, and when it was first seen
        self.retried = 0

    def trials(self) -> list[FrozenTrial]:
        """All that count, by number."""
        return [trial for trial in self.optuna.get_trials(deepcopy=False) if not trial.user_attrs.get(LOST)]

    def begin(self, budget: int) -> Begun | None:
        """A trial that waits, or a new one; None if `budget` trials are begun."""
        self.give_back_lost()
        counted = self.trials()
        if len(counted) >= budget and not any(trial.state == TrialState.WAITING for trial in counted):
            return None
        trial = self.optuna.ask()
        trial.set_user_attr(WORKER, self._me)
        attributes = trial.user_attrs
        if SETTINGS in attributes:  # of a lost one; the budget has it already
            return Begun(trial, attributes[RUN], json.loads(attributes[SETTINGS]))
        earlier = [other for other in self.trials() if other.number < trial.number]
        if len(earlier) >= budget:  # another worker was faster
            self._lose(trial.number, trial._trial_id)
            return None
        taken = {other.user_attrs.get(PLACE) for other in self.trials() if other.number != trial.number}
        place = next(place for place in range(len(earlier), len(earlier) + len(taken) + 1) if place not in taken)
        run = f"{trial.number:04d}"
        trial.set_user_attr(PLACE, place)
        trial.set_user_attr(RUN, run)
        settings = suggest(trial, self.question.space, self.question.own)
        trial.set_user_attr(SETTINGS, json.dumps(settings))
        return Begun(trial, run, settings)

    def end(self, begun: Begun, state: TrialState, value: float | None = None, **facts: Any) -> bool:
        """Note what became of a trial; False if it was given to another worker meanwhile, because this one was silent for long."""
        try:
            for name, fact in facts.items():
                begun.trial.set_user_attr(name, fact)
            self.optuna.tell(begun.trial, value, state=state)
        except (UpdateFinishedTrialError, ValueError):  # ValueError: tell() of a trial that has ended
            if not self.optuna.trials[begun.trial.number].user_attrs.get(LOST):
                raise
            return False
        return True

    def put_back(self, begun: Begun) -> None:
        """Another worker, or this one another time, does it."""
        self._lose(begun.trial.number, begun.trial._trial_id)

    def give_back_lost(self) -> None:
        """Let trials of workers that are gone wait again."""
        for trial in self.trials():
            if trial.state == TrialState.RUNNING and self._is_gone(trial):
                self._lose(trial.number, trial._trial_id)
                self.retried += 1

    def best(self, trials: Sequence[FrozenTrial] | None = None) -> FrozenTrial | None:
        """The finished trial with the best value, the earliest of equal ones, of `trials` or all; None if there is none."""
        done = [trial for trial in trials or self.trials() if trial.state == TrialState.COMPLETE]
        sign = -1 if self.question.higher else 1
        return min(done, key=lambda trial: (sign * (trial.value or 0.0), trial.number), default=None)

    def running(self) -> int:
        """Trials that are not over."""
        return sum(not trial.state.is_finished() for trial in self.trials())

    @contextmanager
    def signs_of_life(self, trial: Trial) -> Iterator[None]:
        """While the block runs, other machines see that this worker is there."""
        over = threading.Event()

        def beat() -> None:
            count = 0
            while not over.wait(BEAT_SECONDS):
                count += 1
                try:
                    trial.set_user_attr(BEAT, count)
                except Exception as error:  # whoever writes next meets the same error, and says so
                    say(f"tune: no sign of life could be written: {error}")

        thread = threading.Thread(target=beat, name="signs of life", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _is_gone(self, trial: FrozenTrial) -> bool:
        worker: Mapping[str, Any] = trial.user_attrs.get(WORKER) or {}
        if worker.get("machine") == self._me["machine"]:
            if worker == self._me:
                return False
            return process_start(int(worker["pid"])) not in ("", worker["start"])
        sign = trial.user_attrs.get(BEAT)
        if self._seen.get(trial.number, (None, 0.0))[0] != (sign, worker):
            self._seen[trial.number] = (sign, worker), time.monotonic()
        return time.monotonic() - self._seen[trial.number][1] > SILENT

    def _lose(self, number: int, trial_id: int) -> None:
        """Of two workers that find a trial lost, the one that ends it puts another in its place."""
        storage = self.optuna._storage
        try:
            storage.set_trial_user_attr(trial_id, LOST, True)
            if not storage.set_trial_state_values(trial_id, TrialState.FAIL):
                return
        except UpdateFinishedTrialError:
            return
        lost = self.optuna.get_trials(deepcopy=False)[number]
        if SETTINGS not in lost.user_attrs:
            return  # nothing was begun: a new trial will do
        self.optuna.add_trial(
            create_trial(
                state=TrialState.WAITING,
                system_attrs={"fixed_params": lost.params},
                user_attrs={name: lost.user_attrs[name] for name in INHERITED},
                intermediate_values=lost.intermediate_values,
                params=lost.params,
                distributions=lost.distributions,
            )
        )
