"""What one does with a trained run: evaluate it, score rows with it. In: a run folder or a checkpoint; out: metrics and files."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from interformer_rec.config import RunConfig
from interformer_rec.data.fit import Fitted
from interformer_rec.distributed.environment import Environment, process_group
from interformer_rec.distributed.restore import load
from interformer_rec.found_config import data_to_evaluate
from interformer_rec.optimizer_config import EmbeddingOptimizer, OptimizerConfig
from interformer_rec.storage import Storage
from interformer_rec.training.build import build_parallel, eval_loader
from interformer_rec.training.evaluation import evaluate as run_evaluation
from interformer_rec.training.pipeline import Pipeline
from interformer_rec.training.prediction import write_scores
from interformer_rec.training.run_folder import attached_config, locate, unpack_features
from interformer_rec.training.same_run import plan_facts, require_same, run_facts


def evaluate(path: str, data: str | None = None, trust: bool = False) -> dict[str, Any]:
    """Metrics of a run's best checkpoint (or the named checkpoint) on `data`, default: the run's test or valid files.

    `trust`: the run is the user's own, so its config may name what is opened (found_config.py).
    """
    weights = locate(path, trust)
    config = attached_config(weights, trust)
    files = data or data_to_evaluate(path, config, trust)
    with process_group(config.training.device) as env:
        fitted, pipeline = _restore(config, env, weights)
        loader = eval_loader(config, files, env, fitted)
        require_same(env, plan_facts({"--data": loader}))
        metrics = run_evaluation(pipeline, loader.batches(), config.features, env).metrics
        return {"checkpoint": weights.location, "data": files, **metrics}


def predict(path: str, data: str, out: str, trust: bool = False) -> dict[str, Any]:
    """Write the rows of `data` with one score column a label (`score_<label>`) to `out`; returns what was written.

    `out` ending in .parquet is one file (one rank only); else a folder with one part a rank, rows in the input's order.
    """
    weights = locate(path, trust)
    config = attached_config(weights, trust)
    with process_group(config.training.device) as env:
        fitted, pipeline = _restore(config, env, weights)
        loader = eval_loader(config, data, env, fitted, labels=False)
        require_same(env, plan_facts({"--data": loader}))
        rows = write_scores(pipeline, loader, [label.name for label in config.features.labels], out, env)
        return {"checkpoint": weights.location, "data": data, "out": out, "rows": rows}


def _restore(config: RunConfig, env: Environment, weights: Storage) -> tuple[Fitted, Pipeline]:
    """The model of a run with the weights of a checkpoint (averaged, where it has an average), on this world size and plan."""
    require_same(env, {"checkpoint": weights.location, **run_facts(config)})
    fitted = env.on_main(lambda: _unpacked(weights))
    # SGD has no state: no memory for accumulators (or an average) that nobody reads, and it exists on every device.
    stateless = OptimizerConfig(embedding=EmbeddingOptimizer(kind="sgd"))
    planned_here = config.sharding.model_copy(update={"plan": None})  # a plan file is for the training job's ranks
    config = config.model_copy(update={"optimizer": stateless, "sharding": planned_here})
    parallel = build_parallel(config, env, fitted)
    load(weights, parallel, env, weights_only=True)
    return fitted, Pipeline(parallel, env, config.training.precision)


def _unpacked(weights: Storage) -> Fitted:
    with tempfile.TemporaryDirectory() as temporary:
        unpack_features(weights, Path(temporary))
        return Fitted.load(temporary)
