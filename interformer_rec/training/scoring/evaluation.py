"""A data set becomes metrics. In: a Pipeline and rows; out: one flat dict, the same on every rank."""

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from interformer_rec.batch import Batch
from interformer_rec.config.features import FeatureSchema
from interformer_rec.errors import InputError
from interformer_rec.metrics.evaluation import EvalMetrics
from interformer_rec.metrics.recalibration import Lines
from interformer_rec.training.pipeline import Pipeline
from interformer_rec.training.skipped import SkippedRows


@dataclass
class Evaluation:
    """Metrics of a data set, and what the calibration plot needs."""

    metrics: dict[str, float]
    calibration_bins: dict[str, list[dict[str, float]]]
    sums: dict[str, list[float]]  # what the metrics of every label were computed from (EvalMetrics.sums)
    recalibration: Lines | None = None  # that was fitted on this data set, and that the metrics are of
    before: dict[str, list[float]] | None = None  # `sums` without it

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
    after_step: Callable[[], int] = lambda: 0,
    at: Callable[[str], None] = lambda doing: None,
    also: Callable[[Batch], None] = lambda batch: None,
    recalibrate: bool = False,
) -> Evaluation:
    """Score every row once, over all ranks, with the averaged dense weights if the optimizer keeps them; exact metrics (collective).

    Raises Interrupted, once the pipeline is empty, if `after_step` returned the number of a signal; InputError where too many rows
    were skipped, or where no metric is defined. `at`: see Pipeline.run. `also`: takes every batch, without fillers.
    `recalibrate`: fit a recalibration on the data set first.
    """
    tasks = [label.name for label in features.labels]
    metrics = EvalMetrics(tasks, features.group is not None, pipeline.env.device, features.request is not None)
    start = time.perf_counter()
    stopping = 0
    batches = itertools.takewhile(lambda _: not stopping, data.loader.batches())
    data.begin()
    with pipeline.optimizer.averaged():
        for step in pipeline.run(batches, train=False, at=at):
            data.add(step.batch)
            if step.batch.rows:  # a filler is nobody's row
                also(step.batch)
                batch = step.batch
                metrics.update(step.logits, batch.labels, batch.weights, batch.groups, batch.request_numbers)
            stopping = stopping or after_step()
    if stopping:
        raise Interrupted(stopping)
    data.require_few()
    before = metrics.sums() if recalibrate else None
    lines = metrics.recalibrate() if recalibrate else None
    values = metrics.compute()
    if (reason := metrics.undefined()) is not None:
        raise InputError(f"nothing was evaluated: {reason}")
    values["seconds"] = time.perf_counter() - start
    bins = {task: metrics.calibration_bins(task) for task in tasks}
    return Evaluation(values, bins, metrics.sums(), lines, before)


def worse_than_constant(metrics: Mapping[str, Any], labels: tuple[str, ...], data: str, fitted: bool) -> list[str]:
    """A warning for each label whose logloss is worse than that of the mean label. `data`: of the metrics; `fitted`: recalibrated."""
    cure = (
        "The recalibration was fitted on older rows: take newer ones for data.valid, and train again"
        if fitted
        else "training.recalibrate: true fits a scale and a shift of the logits on data.valid, and leaves AUC as it is; fewer epochs, a "
        "higher optimizer.embedding.l2 and newer training rows may help as well"
    )
    return [
        f"warning: {label}: logloss {metrics[f'{label}/logloss']:.4f} of {data} is worse than {metrics[f'{label}/logloss'] / ne:.4f}, that "
        f"of a constant, the mean label {metrics[f'{label}/base_rate']:.4f} (NE {ne:.3f}; predictions add up to "
        f"{metrics[f'{label}/calibration']:.2f} times the labels). The scores may rank well, but they are no probabilities. {cure}"
        for label in labels
        if (ne := metrics[f"{label}/ne"]) is not None and ne > 1
    ]
