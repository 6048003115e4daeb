"""What a worker prints. In: trials; out: one line each: number, value, best so far, seconds, what differs from the config."""

import json
from collections.abc import Mapping
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from interformer_rec.redaction import redact
from interformer_rec.text import metric
from interformer_rec.tuning.message import FAILED, PRUNED, REFUSED
from interformer_rec.tuning.study import ENDED, RUN, SECONDS, SETTINGS, WHY, Study


def short(value: Any) -> str:
    """A setting in few characters."""
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def differs(settings: Mapping[str, Any]) -> str:
    """`optimizer.dense.lr 0.0042, model.d 24`."""
    return ", ".join(f"{key} {short(value)}" for key, value in settings.items()) or "the config as it is"


def outcome(trial: FrozenTrial) -> str:
    """A trial's value, or what became of it instead, in a few words."""
    ended = trial.user_attrs.get(ENDED)
    if trial.state == TrialState.COMPLETE:
        return metric(trial.value)
    if ended == PRUNED:
        return f"pruned at step {trial.last_step}, {metric(trial.value)}"
    if ended in (FAILED, REFUSED):
        return str(ended)
    return "waits" if trial.state == TrialState.WAITING else "runs"


class Screen:
    """The lines of one worker."""

    def __init__(self, metric: str) -> None:
        self._metric = metric

    def beginning(self, study: Study, trials: int, where: str) -> None:
        """What is asked, and what is there already."""
        done = sum(trial.state.is_finished() for trial in study.trials())
        better = "higher" if study.question.higher else "lower"
        there = f", {done} of them done" if done else ""
        print(
            f"tune {study.name}: {self._metric} of data.valid, {better} is better; {trials} trials{there}", flush=True
        )
        print(f"study: {redact(where)}; trials in {redact(str(study.question.folder('')))!r}", flush=True)
        if study.question.evaluations:
            print(study.question.evaluations, flush=True)

    def trial(self, run: str, study: Study) -> None:
        """A trial is over."""
        trial = next(one for one in study.trials() if one.user_attrs.get(RUN) == run)
        best = study.best()
        so_far = f"best {metric(best.value)} (trial {best.user_attrs[RUN]})" if best is not None else "no best yet"
        facts = trial.user_attrs
        settings = json.loads(facts[SETTINGS])
        why = f": {_first_line(facts[WHY])}" if facts.get(WHY) else ""
        line = f"trial {run}  {outcome(trial) + why:<8}  {so_far}  {facts[SECONDS]:.1f} s  {differs(settings)}"
        print(redact(line), flush=True)

    def taken_over(self, run: str) -> None:
        """This worker was silent for so long that it counted as gone."""
        print(f"trial {run}: another worker took it over; its value here is not counted", flush=True)

    def waiting(self, running: int) -> None:
        """Nothing is left to begin."""
        print(f"all trials are begun; waiting for {running} that other workers do", flush=True)


def _first_line(text: str) -> str:
    """Of a config's error the line that says what is wrong, not the file's name before it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[1] if len(lines) > 1 and lines[0].endswith(":") else lines[0]
