"""A data set becomes metrics. In: a Pipeline and rows; out: one flat dict, the same on every rank."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from interformer_rec.config.features import FeatureSchema
from interformer_rec.distributed.environment import Environment
from interformer_rec.errors import InputError
from interformer_rec.metrics.evaluation import EvalMetrics
from interformer_rec.training.pipeline import Pipeline
from interformer_rec.training.skipped import SkippedRows


@dataclass
class Evaluation:
    """Metrics of a data set, and what the calibration plot needs."""

    metrics: dict[str, float]
    calibration_bins: dict[str, list[dict[str, float]]]

    def to_dict(self) -> dict[str, Any]:
        """For evaluation.json."""
        return {**self.metrics, "calibration_bins": self.calibration_bins}


class Interrupted(Exception):
    """The ranks agreed to stop in mid-evaluation."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"signal {signal_number}")
        self.signal = signal_number


def evaluate(
    pipeline: Pipeline,
    data: SkippedRows,
    features: FeatureSchema,
    env: Environment,
    after_step: Callable[[], int] = lambda: 0,
    at: Callable[[str], None] = lambda doing: None,
) -> Evaluation:
    """Score every row once, over all ranks, with the averaged dense weights if the optimizer keeps them; exact metrics (collective).

    Raises Interrupted, once the pipeline is empty, if `after_step` returned the number of a signal; InputError where too many rows
    were skipped, or where no metric is defined. `at`: see Pipeline.run.
    """
    tasks = [label.name for label in features.labels]
    metrics = EvalMetrics(tasks, group=features.group is not None, device=env.device)
    start = time.perf_counter()
    stopping = 0
    batches = itertools.takewhile(lambda _: not stopping, data.loader.batches())
    data.begin()
    with pipeline.optimizer.averaged():
        for step in pipeline.run(batches, train=False, at=at):
            data.add(step.batch)
            if step.batch.rows:  # a filler is nobody's row
                metrics.update(step.logits, step.batch.labels, step.batch.weights, step.batch.groups)
            stopping = stopping or after_step()
    if stopping:
        raise Interrupted(stopping)
    data.require_few()
    values = metrics.compute()
    if (reason := metrics.undefined()) is not None:
        raise InputError(f"nothing was evaluated: {reason}")
    values["seconds"] = time.perf_counter() - start
    return Evaluation(values, {task: metrics.calibration_bins(task) for task in tasks})
