"""What the validation set says in the course of a run. In: the model at some step; out: its metrics, which are best, when to stop.

The state of all this is saved before an evaluation, with the checkpoint, and added to the checkpoint after it (distributed/evaluated.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from interformer_rec.batch import Batch
from interformer_rec.config import RunConfig
from interformer_rec.data.loader import Loader
from interformer_rec.data.plan import Cursor
from interformer_rec.distributed.environment import Environment
from interformer_rec.distributed.evaluated import Evaluated
from interformer_rec.distributed.optimizer import LearningRate
from interformer_rec.training.evaluation import Evaluation, evaluate
from interformer_rec.training.pipeline import Pipeline
from interformer_rec.training.progress import RunLog
from interformer_rec.training.skipped import SkippedRows
from interformer_rec.training.stopping import Progress


class Validation:
    """The monitored metric, its best value, patience and the plateau schedule; without a loader only the state's place."""

    def __init__(
        self, config: RunConfig, env: Environment, rate: LearningRate, loader: Loader | None, log: RunLog
    ) -> None:
        self.features, self.env, self.rate, self.loader, self.log = config.features, env, rate, loader, log
        self.skipped = SkippedRows(loader, config.data.max_bad_rows, "data.valid", env) if loader else None
        self.progress = Progress(config.training.monitor, config.training.patience)
        self.monitored = f"{config.features.labels[0].name}/{config.training.monitor}"
        self.best: Evaluation | None = None

    def run(
        self,
        pipeline: Pipeline,
        stream: Iterator[tuple[Batch, Cursor]],
        place: dict[str, int],
        after_step: Callable[[], int],
    ) -> Evaluated:
        """Score the stream, log it at `place`, move patience and schedule on (collective). Raises Interrupted, InputError."""
        evaluation = evaluate(pipeline, stream, self.features, self.env, after_step, self.skipped)
        self.log.evaluation("valid", {**place, **evaluation.metrics})
        value = evaluation.metrics[self.monitored]
        best = self.progress.observe(value)
        self.rate.observe(value)
        if best:
            self.best = evaluation
        return Evaluated(best, {"evaluate": False, **self.state_dict()})

    @property
    def exhausted(self) -> bool:
        """Patience is used up."""
        return self.progress.exhausted

    def state_dict(self) -> dict[str, Any]:
        """JSON-able; part of a checkpoint's state."""
        return {
            "schedule": self.rate.state_dict(),
            "progress": self.progress.state_dict(),
            "best_evaluation": self.best.to_dict() if self.best else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint's state."""
        self.rate.load_state_dict(state["schedule"])
        self.progress.load_state_dict(state["progress"])
        if state["best_evaluation"]:
            metrics = dict(state["best_evaluation"])
            self.best = Evaluation(calibration_bins=metrics.pop("calibration_bins"), metrics=metrics)
