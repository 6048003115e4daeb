"""What one does with a trained run: evaluate it, score rows with it. In: a run folder or a checkpoint; out: metrics and files."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from interformer_rec.checkpoint.read import read_state
from interformer_rec.config.found import data_to_evaluate
from interformer_rec.config.optimizer import EmbeddingOptimizer, OptimizerConfig
from interformer_rec.config.run import RunConfig
from interformer_rec.data.files.source import Source, open_source
from interformer_rec.data.files.struct_lists import with_candidate_lists
from interformer_rec.data.fit import Fitted
from interformer_rec.data.loader import Loader
from interformer_rec.distributed.environment import Environment, process_group
from interformer_rec.errors import InputError, say
from interformer_rec.metrics.recalibration import Lines
from interformer_rec.storage import Storage
from interformer_rec.training.build import build_parallel, eval_loader
from interformer_rec.training.folder.located import Located
from interformer_rec.training.folder.run_folder import locate, unpack_features
from interformer_rec.training.pipeline import Pipeline
from interformer_rec.training.scoring.evaluation import evaluate as run_evaluation
from interformer_rec.training.scoring.evaluation import worse_than_constant
from interformer_rec.training.scoring.prediction import ScoreFiles, score_columns, write_scores
from interformer_rec.training.scoring.settings import read_config
from interformer_rec.training.skipped import SkippedRows
from interformer_rec.training.start.same_run import plan_facts, require_same, run_facts
from interformer_rec.training.start.saved_state import checked_state


def evaluate(path: str, data: str | None = None, overrides: Sequence[str] = (), trust: bool = False) -> dict[str, Any]:
    """Metrics of a run's best checkpoint (or the named checkpoint) on `data`, default: the run's test or valid files.

    `overrides`: a.b=c, see settings.py. `trust`: the run is the user's own, so its config may name what is opened
    (config/found.py).
    """
    located = locate(path, trust)
    config = read_config(located, path, overrides, "evaluate", trust)
    if data == "":
        raise InputError("--data is empty: name the files, or leave it out to evaluate on those of the run")
    files = data_to_evaluate(path, config, trust) if data is None else data
    with process_group(config.training.device, start_seconds=config.training.start_seconds) as env:
        loader, pipeline = restore(config, env, located, files)
        rows = SkippedRows(loader, config.data.max_bad_rows, "the files to evaluate on", env)
        metrics = run_evaluation(pipeline, rows, config.features).metrics
        labels = tuple(label.name for label in config.features.labels)
        warnings = worse_than_constant(metrics, labels, "these rows", pipeline.lines is not None)
        if env.is_main and warnings:
            say("\n".join(warnings))
        return {"checkpoint": located.checkpoint.location, "data": files, **metrics, **_bad_rows(rows)}


def predict(
    path: str,
    data: str,
    out: str,
    overrides: Sequence[str] = (),
    score_column: str = "score_{label}",
    trust: bool = False,
) -> dict[str, Any]:
    """Write the rows of `data` with one score column a label to `out`; returns what was written. Options as for `evaluate`.

    `out`, a path or URI, is one file if it ends in .parquet (one rank only); else a folder with one part a rank, rows in the input's
    order. A bad row that data.on_bad_row skips is there, its score null.
    """
    located = locate(path, trust)
    config = read_config(located, path, overrides, "predict", trust)
    with process_group(config.training.device, start_seconds=config.training.start_seconds) as env:
        source = with_candidate_lists(open_source(data, config.data.max_decoded_bytes), config.features)
        output = ScoreFiles.find(out)
        present = source.columns.whole(()).schema.names
        columns = score_columns((label.name for label in config.features.labels), score_column, present)
        env.on_main(lambda: output.refuse_existing(env.world_size))
        env.on_main(lambda: output.refuse_among(data, env.world_size))
        loader, pipeline = restore(config, env, located, source, labels=False)
        rows = SkippedRows(loader, config.data.max_bad_rows, "--data", env)
        written = write_scores(pipeline, rows, columns, output, env)
        return {"checkpoint": located.checkpoint.location, "data": data, "out": out, **written, **_bad_rows(rows)}


def _bad_rows(rows: SkippedRows) -> dict[str, Any]:
    """For the result (collective); nothing where none was skipped."""
    reasons = rows.reasons()
    return {"bad_rows": reasons} if reasons else {}


def restore(
    config: RunConfig, env: Environment, located: Located, data: str | Source, labels: bool = True
) -> tuple[Loader, Pipeline]:
    """The model of a run with the weights of a checkpoint (averaged, where it has an average), on this world size and plan, and its data.

    Files that the model was not trained for are refused before its weights are read.
    """
    require_same(env, {"checkpoint": located.candidates[0].location, **run_facts(config)})
    located.agree(env)
    fitted = env.on_main(lambda: located.read(fitted_of))
    located.agree(env)
    vocabularies_of = located.at
    loader = eval_loader(config, data, env, fitted, labels)
    require_same(env, plan_facts({"--data": loader}))
    parallel = build_parallel(to_score(config), env, fitted)
    located.load(parallel, env)
    if located.at != vocabularies_of and fitted.growing:  # of damaged weights: those in use have other vocabularies
        fitted = env.on_main(lambda: fitted_of(located.checkpoint))
        loader = eval_loader(config, loader.source, env, fitted, labels)
    located.warn(env)
    pipeline = Pipeline(parallel, env, config.training.precision)
    lines = env.on_main(lambda: recalibration_of(config, located.checkpoint))
    pipeline.recalibrate(lines, tuple(label.name for label in config.features.labels))
    return loader, pipeline


def recalibration_of(config: RunConfig, checkpoint: Storage) -> Lines | None:
    """What its evaluation has fitted; says so where the config asks for it and there is none. Raises DamagedError."""
    found = checked_state(read_state(checkpoint), checkpoint.location)["recalibration"]
    if found is None and config.training.recalibrate:
        say(
            f"warning: checkpoint {checkpoint.location!r} was not evaluated, so its scores are not recalibrated, though "
            "training.recalibrate is set"
        )
    return None if found is None else {label: (line[0], line[1]) for label, line in found.items()}


def to_score(config: RunConfig) -> RunConfig:
    """The config of a model that is not trained."""
    # SGD has no state: no memory for accumulators (or an average) that nobody reads, and it exists on every device.
    stateless = OptimizerConfig(embedding=EmbeddingOptimizer(kind="sgd"))
    planned_here = config.sharding.model_copy(update={"plan": None})  # a plan file is for the training job's ranks
    return config.model_copy(update={"optimizer": stateless, "sharding": planned_here})


def fitted_of(weights: Storage) -> Fitted:
    """What was learned of the training files, as a checkpoint has it. Raises InputError."""
    with tempfile.TemporaryDirectory() as temporary:
        unpack_features(weights, Path(temporary))
        return Fitted.load(temporary)
