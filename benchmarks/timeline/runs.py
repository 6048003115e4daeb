"""One training of a system. In: its config; out: what each window cost, its metrics and its scores."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.quality.statistics import Scored
from benchmarks.timeline.meter import Meter, ScoredRows, table_bytes
from interformer_rec.config.run import RunConfig
from interformer_rec.data.fit import Fitted
from interformer_rec.distributed.environment import Environment, process_group
from interformer_rec.training.build import eval_loader
from interformer_rec.training.folder.run_folder import RunFolder
from interformer_rec.training.folder.run_log import read_log
from interformer_rec.training.scoring.evaluation import evaluate
from interformer_rec.training.skipped import SkippedRows
from interformer_rec.training.start.prepare import Start, prepare, write_start
from interformer_rec.training.start.resume import resumed
from interformer_rec.training.windows.unknown_ids import UnknownIds

METRICS = ("auc", "ne", "calibration", "logloss")


@dataclass
class Judged:
    """A system on a window."""

    row: dict[str, Any]  # of the result file
    scored: Scored


class Stopped(Exception):
    """A signal ended a run."""


def in_time_order(
    config: RunConfig, resume: bool, later: Sequence[Path], decay: float
) -> tuple[dict[str, Judged], dict[str, Judged]]:
    """Train on the windows of a config; then score `later` windows with the model as it is. Out: both, by window."""
    with process_group(config.training.device) as env:
        folder = RunFolder(config)
        folder.claim(resume)
        try:
            config = resumed(config, folder).config if resume else config
            start = prepare(config, env, folder, resume)
            write_start(config, env, folder, start)
            meter = Meter(start, decay)
            _fit(start)
            windows = start.trainer.hooks.windows
            assert windows is not None, "a config with data.windows"
            records = {one["window"]: one for one in read_log(folder.path) if one["split"] == "window"}
            trained = {
                name: Judged(_row(config, records[name]) | _cost(asdict(cost), records[name]), meter.scored[name])
                for name, cost in meter.costs.items()
            }
            frozen = {place.name: _judge(start, config, env, windows.fitted, place, meter.rows) for place in later}
            return trained, frozen
        finally:
            folder.release()


def from_scratch(config: RunConfig, window: Path) -> Judged:
    """Train a new model on the files of a config, and score a window with it."""
    with process_group(config.training.device) as env:
        folder = RunFolder(config)
        folder.claim(False)
        try:
            start = prepare(config, env, folder, False)
            write_start(config, env, folder, start)
            cpu, wall = time.process_time(), time.perf_counter()
            _fit(start)
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            judged = _judge(start, config, env, start.fitted, window, ScoredRows(start.parallel))
            loader = start.data["train"].loader
            rows = loader.source.rows if loader is not None else 0
            judged.row |= _cost(
                {"train_cpu_seconds": cpu, "train_seconds": wall, "table_bytes": table_bytes(start.parallel)},
                {"rows": rows * config.training.epochs},
            )
            return judged
        finally:
            folder.release()


def _fit(start: Start) -> None:
    with start.run.log:
        if stopped_by := start.trainer.fit():
            raise Stopped(f"signal {stopped_by}")


def _judge(start: Start, config: RunConfig, env: Environment, fitted: Fitted, window: Path, rows: ScoredRows) -> Judged:
    unknown = UnknownIds(config.features, env.device)
    loader = eval_loader(config, f"{window}/*.parquet", env, fitted)
    data = SkippedRows(loader, config.data.max_bad_rows, f"window {window.name!r}", env)
    found = evaluate(start.pipeline, data, config.features, also=unknown.add)
    return Judged(_row(config, {**found.metrics, **unknown.shares()}), rows.take())


def _row(config: RunConfig, metrics: dict[str, Any]) -> dict[str, Any]:
    """Metrics of a window, and the share of unknown ids in the columns of the tables that may grow."""
    label = config.features.labels[0].name
    wanted = {one.key for one in (*config.features.pooled_lookups, *config.features.jagged_lookups)}
    unknown = {key: metrics[f"{key}/unknown"] for key in sorted(wanted) if metrics.get(f"{key}/unknown")}
    return {
        "rows": int(metrics["rows"]),
        **{name: metrics[f"{label}/{name}"] for name in METRICS},
        "unknown": {key: round(share, 4) for key, share in unknown.items()},
    }


def _cost(cost: dict[str, Any], trained: dict[str, Any]) -> dict[str, Any]:
    """Of training on so many rows."""
    rows = int(trained["rows"])
    return {"trained_rows": rows, "rows_per_second": rows / cost["train_seconds"], **cost}
