"""What the validation set says in the course of a run. In: the model at some step; out: its metrics, their best value, when to stop.

The state of all this is saved before an evaluation, with the checkpoint, and added to the checkpoint after it (checkpoint/evaluated.py).
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from interformer_rec.batch import Batch
from interformer_rec.checkpoint.evaluated import Evaluated, Score
from interformer_rec.distributed.best_so_far import BestSoFar
from interformer_rec.distributed.optimizer import LearningRate
from interformer_rec.errors import InputError
from interformer_rec.metrics.evaluation import ratios
from interformer_rec.metrics.recalibration import AS_IT_IS, text_of
from interformer_rec.training.loop import Run
from interformer_rec.training.pipeline import Pipeline
from interformer_rec.training.scoring.evaluation import Evaluation, evaluate
from interformer_rec.training.skipped import SkippedRows
from interformer_rec.training.stopping import Progress

SAVED = "The checkpoint of this step is saved: --resume begins with its evaluation"  # where one fails
FALLBACK = "logloss"  # defined wherever there is a row, and a score is finite


class Validation:
    """The monitored metric, its best value, patience and the plateau schedule; without data only the state's place."""

    def __init__(
        self, run: Run, rate: LearningRate, data: SkippedRows | None, also: Callable[[Batch], None] = lambda batch: None
    ) -> None:
        """`data`: of data.valid; `also`: takes every batch of an evaluation."""
        self.run, self.rate, self.data, self.also = run, rate, data, also
        options = run.config.training
        self.label, self.wanted, self.patience = run.config.features.labels[0].name, options.monitor, options.patience
        self._watch(self.wanted)

    def evaluate(self, pipeline: Pipeline, data: SkippedRows, after_step: Callable[[], int]) -> Evaluated:
        """Score `data`, log it, move patience and schedule on (collective). Raises Interrupted, InputError."""
        run = self.run
        wanted = run.config.training.recalibrate
        evaluation = evaluate(pipeline, data, run.config.features, after_step, run.at, self.also, wanted)
        self._say(evaluation)
        run.log.evaluation("valid", {**run.position.place, **evaluation.metrics})
        self._choose(evaluation.metrics)
        value = evaluation.metrics[self.monitored]
        self.progress.observe(value)
        self.rate.observe(value)
        score = Score(self.monitored, self.progress.higher, value, self.progress.value)
        found = {"evaluation": evaluation.to_dict(), "recalibration": evaluation.recalibration}
        return Evaluated(score, {"evaluate": False, **self.state_dict(), **found})

    def _say(self, evaluation: Evaluation) -> None:
        """What was recalibrated."""
        if evaluation.recalibration is None or evaluation.before is None:
            return
        for label, line in evaluation.recalibration.items():
            if line == AS_IT_IS:
                self.run.log.message(
                    f"warning: training.recalibrate: {label} stays as it is: no scale above 0 brings a lower logloss on data.valid. Its "
                    "scores rank no better than chance there, or all its labels are equal"
                )
                continue
            before = ratios(np.array(evaluation.before[label]))["ne"]
            after = evaluation.metrics[f"{label}/ne"]
            self.run.log.message(
                f"recalibrated on data.valid: {text_of({label: line})}; NE {after:.4f} instead of {before:.4f}"
            )

    def _watch(self, metric: str) -> None:
        """Best checkpoint, patience and plateau schedule follow this metric; nothing is known of it yet."""
        self.monitored = f"{self.label}/{metric}"
        self.progress = Progress(metric, self.patience)
        self.rate.best = BestSoFar(self.progress.higher)

    def _choose(self, metrics: dict[str, float]) -> None:
        """Watch the metric of the config, or FALLBACK where the rows do not define that one; says so when it changes."""
        if not math.isnan(metrics[f"{self.label}/{self.wanted}"]):
            metric, why = self.wanted, f"data.valid defines {self.label}/{self.wanted} again"
        elif not math.isnan(metrics[f"{self.label}/{FALLBACK}"]):
            metric, why = FALLBACK, self._undefined(metrics[f"{self.label}/base_rate"])
        else:
            raise InputError(
                f"{self.label}/{self.wanted} and {self.label}/{FALLBACK} are not defined: a score of data.valid is not finite"
            )
        if self.monitored != f"{self.label}/{metric}":
            self._watch(metric)
            self.run.log.message(
                f"{why}: the best checkpoint, patience and the plateau schedule go by {self.monitored} from here on"
            )

    def _undefined(self, base_rate: float) -> str:
        rows = "no group has rows of both classes" if 0 < base_rate < 1 else f"all rows have the label {base_rate:g}"
        return f"warning: training.monitor {self.label}/{self.wanted} is not defined on data.valid ({rows})"

    @property
    def exhausted(self) -> bool:
        """Patience is used up."""
        return self.progress.exhausted

    def state_dict(self) -> dict[str, Any]:
        """JSON-able; part of a checkpoint's state."""
        return {
            "monitor": self.monitored,
            "schedule": self.rate.state_dict(),
            "progress": self.progress.state_dict(),
            "evaluation": None,  # of the weights beside it: not yet
            "recalibration": None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint's state; the best value of another metric says nothing about this one."""
        if state["monitor"] == f"{self.label}/{FALLBACK}":  # until an evaluation defines the metric of the config
            self._watch(FALLBACK)
        same = state["monitor"] == self.monitored
        unseen = BestSoFar(self.progress.higher).state_dict()
        self.rate.load_state_dict(state["schedule"] if same else {**state["schedule"], "best": unseen})
        self.progress.load_state_dict(state["progress"] if same else unseen)
