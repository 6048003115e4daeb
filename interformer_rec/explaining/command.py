"""`interformer explain`: what a trained model's quality depends on. In: a run and rows with labels; out: explain.html and explain.json.

The model, the loader and the metrics are those of `interformer evaluate`; rows are decoded once and scored many times.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from interformer_rec.config.found import data_to_evaluate
from interformer_rec.config.run import RunConfig
from interformer_rec.data.files.source import open_source
from interformer_rec.data.loader import Loader
from interformer_rec.distributed.environment import Environment, process_group
from interformer_rec.errors import InputError, say
from interformer_rec.explaining.arguments import ExplainOptions
from interformer_rec.explaining.importance import RESAMPLES, Importance
from interformer_rec.explaining.output import open_output, write
from interformer_rec.explaining.rows import KeptRows, read_rows
from interformer_rec.explaining.savings import REMOVABLE, Machines, Savings
from interformer_rec.explaining.scoring import RowScorer
from interformer_rec.explaining.slices import Slices, check_columns
from interformer_rec.explaining.targets import Target, groups_of, require_impressions, targets_of
from interformer_rec.explaining.terminal import show
from interformer_rec.files import finite
from interformer_rec.metrics.over_users import LEVEL
from interformer_rec.planning.cost.sizes import sizes_of_job
from interformer_rec.training.folder.run_folder import locate
from interformer_rec.training.scoring.settings import read_config
from interformer_rec.training.scoring.trained import restore
from interformer_rec.training.skipped import SkippedRows

FORMAT = 1
SECTIONS = {"feature": "features", "group": "groups", "history": "histories", "field": "fields"}  # of the JSON, by kind


def run(asked: ExplainOptions, as_json: bool) -> int:
    """Explain and print: the most important inputs, or all that was found as one JSON object; 0."""
    content, written = explain(asked)
    if content and as_json:
        print(json.dumps(content))
    elif content:
        show(content, written)
    return 0


def explain(asked: ExplainOptions) -> tuple[dict[str, Any], list[str]]:
    """Write the page and the JSON; returns the JSON's content and where the files are. The ranks that do not write have neither.

    Raises InputError; but for rows and weights themselves, everything is checked before the first row is scored.
    """
    started = time.monotonic()
    asked.check()
    columns = asked.columns
    located = locate(asked.path, asked.trust_run)
    config = read_config(located, asked.path, asked.set, "explain", asked.trust_run)
    require_impressions(config.features)
    groups = groups_of(config.features, asked.groups)
    files = data_to_evaluate(asked.path, config, asked.trust_run) if asked.data is None else asked.data
    with process_group(config.training.device, start_seconds=config.training.start_seconds) as env:
        tell = say if env.is_main else lambda line: None
        machines = Machines.of(asked.cluster, asked.nodes or 1, env)
        source = open_source(files, config.data.max_decoded_bytes)
        check_columns(source.require(columns))
        place = env.on_main(lambda: open_output(asked.path, asked.out, asked.trust_run))
        loader, pipeline = restore(config, env, located, source)
        rows = _kept(config, loader, asked, columns, env)
        scorer = RowScorer(pipeline, config.features, config.data.eval_batch_size, env)
        grouped = config.features.group is not None
        importance = Importance(scorer, rows, grouped, asked.seed, tell)
        slices = Slices(rows, importance.logits, config.features, scorer)
        content = {
            **_head(asked, config, rows, located.checkpoint.location, files),
            "whole": slices.whole(),
            "slices": {column: slices.of(column) for column in columns},
        }
        targets = targets_of(config.features, groups, rows.columns)
        found = importance.of(targets, asked.repeats)
        content |= _sections(config, targets, found) | {"base": _by_label(config, importance.base())}
        content["savings"] = env.on_main(lambda: _savings(config, loader, machines, targets, content, tell))
        content["seconds"] = time.monotonic() - started
        content = finite(content)
        written = env.on_main(lambda: write(place, content))
    return (content, written) if env.is_main else ({}, [])


def _kept(
    config: RunConfig, loader: Loader, asked: ExplainOptions, columns: Sequence[str], env: Environment
) -> KeptRows:
    """The rows, on every rank alike (collective)."""
    rows = read_rows(loader, asked.rows, columns, config.features.group is not None, asked.seed)
    skipped = SkippedRows(loader, config.data.max_bad_rows, "the files to explain", env)
    if env.is_main:
        skipped.count(rows.skipped)
    skipped.require_few()
    return rows


def _head(asked: ExplainOptions, config: RunConfig, rows: KeptRows, checkpoint: str, files: str) -> dict[str, Any]:
    features = config.features
    return {
        "format": FORMAT,
        "run": config.name,
        "model": config.model.kind,
        "checkpoint": checkpoint,
        "data": files,
        "rows": rows.rows,
        "rows_read": rows.read,
        "users": int(rows.users.real.sum()) if features.group is not None else None,
        "bad_rows": {reason: count for reason, (count, _) in rows.skipped.items()},
        "labels": [label.name for label in features.labels],
        "metrics": ["auc", "gauc", "ne"] if features.group is not None else ["auc", "ne"],
        "repeats": asked.repeats,
        "resamples": RESAMPLES,
        "level": LEVEL,
        "seed": asked.seed,
    }


def _by_label(config: RunConfig, found: Sequence[Any]) -> dict[str, Any]:
    return {label.name: value for label, value in zip(config.features.labels, found, strict=False)}


def _sections(
    config: RunConfig, targets: Sequence[Target], found: Sequence[Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    """Each kind's targets, the most important first, by AUC of the first label; ages in their order, permuted and removed side by side."""
    sections: dict[str, list[dict[str, Any]]] = {name: [] for name in SECTIONS.values()}
    ages: dict[str, dict[str, Any]] = {}
    for target, tasks in zip(targets, found, strict=True):
        importance = _by_label(config, tasks)
        if target.kind == "age":
            ages.setdefault(target.name, dict(target.about))[target.how] = importance
        else:
            sections[SECTIONS[target.kind]].append({"name": target.name, **target.about, "importance": importance})
    for section in sections.values():
        section.sort(key=lambda one: _rank(one["importance"]))
    return {**sections, "ages": list(ages.values())}


def _rank(importance: Mapping[str, Any]) -> float:
    """Less for the more important."""
    value = next(iter(importance.values()))["auc"]["mean"] if importance else 0.0
    return float("inf") if value != value else -value


def _savings(
    config: RunConfig,
    loader: Loader,
    machines: Machines,
    targets: Sequence[Target],
    content: Mapping[str, Any],
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """On rank 0: the run's plan; what each input saves is put beside its importance."""
    try:
        savings = Savings(config, sizes_of_job(config.features, loader.table_rows, loader.source), machines)
    except InputError as error:
        return {"why": str(error)}
    removable = [target for target in targets if target.kind in REMOVABLE]
    tell(
        f"what removing each of {len(removable)} inputs saves on {machines.nodes} x {machines.cluster.name}, by the planner"
    )
    for target in removable:
        for entry in content[SECTIONS[target.kind]]:
            if entry["name"] == target.name:
                entry["saves"] = savings.without(target)
    return savings.base()
