"""A study as one JSON object. In: a study; out: trials, the best, counts, importance of settings, for study.json and the page."""

import json
from collections import Counter
from typing import Any

from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from interformer_rec.files import finite
from interformer_rec.tuning.space import Range
from interformer_rec.tuning.study import ENDED, EPOCH, RUN, SECONDS, SETTINGS, WHY, WORKER, Study

FEWEST = 4  # finished trials, before a share of the variance says anything
STATES = {TrialState.RUNNING: "running", TrialState.WAITING: "waiting"}


def summary(study: Study) -> dict[str, Any]:
    """The whole study as it is now. Trials that ended have what a run folder has: a value, an epoch, seconds."""
    question, trials = study.question, study.trials()
    best = study.best(trials)
    rows = [_row(trial) for trial in trials if RUN in trial.user_attrs]
    return finite(
        {
            "name": study.name,
            "metric": question.metric,
            "higher_is_better": question.higher,
            "config": question.source,
            "set": list(question.changes),
            "space": {key: _range(values) for key, values in question.space.items()},
            "own": dict(question.own),
            "counts": dict(Counter(row["state"] for row in rows)),
            "best": None if best is None else _row(best),
            "importance": _importance(study, trials),
            "trials": rows,
        }
    )


def _row(trial: FrozenTrial) -> dict[str, Any]:
    facts = trial.user_attrs
    return {
        "trial": facts[RUN],
        "state": STATES.get(trial.state) or facts.get(ENDED) or "failed",
        "value": trial.value if trial.state == TrialState.COMPLETE else None,
        "settings": json.loads(facts.get(SETTINGS, "{}")),
        "evaluations": [[step, value] for step, value in sorted(trial.intermediate_values.items())],
        "epoch": facts.get(EPOCH),
        "seconds": facts.get(SECONDS),
        "why": facts.get(WHY) or None,
        "host": (facts.get(WORKER) or {}).get("host"),
    }


def _range(values: Range) -> dict[str, Any]:
    return {name: part for name, part in values.model_dump(mode="json", by_alias=True).items() if part is not None}


def _importance(study: Study, trials: list[FrozenTrial]) -> dict[str, Any] | None:
    """The share of the variance of finished trials' values that a key explains (fANOVA), largest first; None of too few trials."""
    done = [
        trial
        for trial in trials
        if trial.state == TrialState.COMPLETE and trial.params.keys() == study.question.space.keys()
    ]
    keys = [key for key in study.question.space if len({str(trial.params[key]) for trial in done}) > 1]
    if len(done) < FEWEST or not keys or len({trial.value for trial in done}) < 2:
        return None
    shares = get_param_importances(study.optuna, evaluator=FanovaImportanceEvaluator(seed=0), params=keys)
    return {"trials": len(done), "shares": shares}
