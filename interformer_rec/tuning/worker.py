"""One worker of a study. In: a study and a number of trials; out: trials that are done, a line on the screen for each.

Each trial is a process of its own, forked from one that has loaded torch: whatever happens to it, the study goes on, and the next one
begins in an empty process. This process loads no torch.
"""

import multiprocessing
import pkgutil
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from types import FrameType

from optuna.trial import TrialState

from interformer_rec.config import run as run_config
from interformer_rec.errors import InputError
from interformer_rec.tuning import message
from interformer_rec.tuning.message import Message
from interformer_rec.tuning.screen import Screen
from interformer_rec.tuning.study import ENDED, EPOCH, SECONDS, WHY, Begun, Study

TRIAL = "interformer_rec.tuning.trial"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOG = "log.txt"  # of a trial's process, in its run folder
LOOK_SECONDS = 0.5
WAIT_SECONDS = 2.0  # between looks at trials of other workers
CONTEXT = multiprocessing.get_context("forkserver")


class Worker:
    """Does trials until the study has as many as it should, or a signal comes."""

    def __init__(self, study: Study, trials: int, screen: Screen, done: Callable[[], None]) -> None:
        """`done`: called after each trial, and while others' are waited for."""
        self.study, self.question, self.trials, self.screen, self.done = study, study.question, trials, screen, done
        self.stopped_by = 0
        self._first = True  # no trial of this worker has begun to train yet
        CONTEXT.set_forkserver_preload([TRIAL])

    def work(self) -> int:
        """Returns 0, or the number of the signal that ended it; its trial then waits for the next worker.

        Raises InputError where the config cannot be trained as it is, or this machine has not its data.
        """
        waited = False
        with self._signals():
            while not self.stopped_by:
                begun = self.study.begin(self.trials)
                if begun is not None:
                    self._do(begun)
                    self.done()
                elif running := self.study.running():
                    if not waited:
                        self.screen.waiting(running)
                    waited = True
                    time.sleep(WAIT_SECONDS)
                else:
                    break
        return self.stopped_by

    def _do(self, begun: Begun) -> None:
        began = time.monotonic()
        try:
            config = self.question.trial(begun.settings, begun.run)
        except InputError as error:
            if not begun.settings:
                self.study.put_back(begun)
                raise
            self._end(begun, Message(message.REFUSED, why=str(error)), 0.0)
            return
        try:
            with self.study.signs_of_life(begun.trial):
                ended = self._trained(begun, run_config.to_yaml(config))
        except BaseException:
            self.study.put_back(begun)
            raise
        if ended.kind == message.NO_DATA or (ended.kind == message.REFUSED and not begun.settings):
            self.study.put_back(begun)
            raise InputError(ended.why)
        if ended.kind == message.STOPPED:
            self.study.put_back(begun)
            return
        self._end(begun, ended, time.monotonic() - began)

    def _end(self, begun: Begun, ended: Message, seconds: float) -> None:
        states = {message.DONE: TrialState.COMPLETE, message.FAILED: TrialState.FAIL}
        state = states.get(ended.kind, TrialState.PRUNED)
        facts = {ENDED: ended.kind, WHY: ended.why, EPOCH: ended.epoch, SECONDS: round(seconds, 3)}
        if not self.study.end(begun, state, ended.value if ended.kind == message.DONE else None, **facts):
            self.screen.taken_over(begun.run)
            return
        self.screen.trial(begun.run, self.study)
        self._remove_checkpoints()

    def _trained(self, begun: Begun, text: str) -> Message:
        """The last message of a trial's process."""
        folder = self.question.folder(begun.run)
        folder.mkdir(parents=True, exist_ok=True)
        mine, others = CONTEXT.Pipe()
        log = str((folder / LOG).resolve())
        arguments = (TRIAL, (text, f"trial {begun.run}", log, others, self._first))
        process = CONTEXT.Process(target=_start, args=arguments, name=f"trial {begun.run}")
        process.start()
        others.close()
        try:
            ended = self._messages(begun, mine, process)
        except BaseException:
            process.kill()
            raise
        finally:
            process.join()
            mine.close()
        if ended is not None:
            self._first = self._first and ended.kind == message.STOPPED
            return ended
        if self.stopped_by:
            return Message(message.STOPPED)
        code = process.exitcode or 0
        if code > 0 and self._first:
            raise InputError(
                f"no trial can begin here: its process ended by exit code {code}. {log!r} has what it said"
            )
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        memory = " (out of memory?)" if code == -signal.SIGKILL else ""
        return Message(message.FAILED, why=f"its process ended by {how}{memory}")

    def _messages(self, begun: Begun, connection: Connection, process: ForkServerProcess) -> Message | None:
        """Answer evaluations; the last message, None if the process ended without one."""
        asked_to_stop = 0
        known = set(begun.trial.study.get_trials(deepcopy=False)[begun.trial.number].intermediate_values)
        while True:
            if self.stopped_by and not asked_to_stop:
                process.terminate()  # it saves its run and ends
                asked_to_stop = self.stopped_by
            if connection not in wait([connection, process.sentinel], LOOK_SECONDS):
                if process.exitcode is None:
                    continue
                if not connection.poll():
                    return None
            try:
                said = connection.recv()
            except EOFError:
                return None
            if said.kind != message.EVALUATED:
                return said
            if said.step not in known:
                begun.trial.report(said.value, said.step)
            connection.send(not begun.trial.should_prune())

    def _remove_checkpoints(self) -> None:
        """Of trials that are over, all but the best: its run can be evaluated, exported and so on."""
        trials = self.study.trials()  # one look: what ends after it is not judged
        best = self.study.best(trials)
        for trial in trials:
            run = trial.user_attrs.get("run")
            if run is not None and trial.state.is_finished() and (best is None or trial.number != best.number):
                shutil.rmtree(self.question.folder(run) / "checkpoints", ignore_errors=True)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def note(number: int, frame: FrameType | None) -> None:
            if self.stopped_by and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.stopped_by = self.stopped_by or number

        previous = {number: signal.signal(number, note) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def _start(module: str, arguments: tuple[str, str, str, Connection, bool]) -> None:
    """In the trial's process, where that module is loaded already."""
    pkgutil.resolve_name(f"{module}:process")(*arguments)
