"""`make demo`: MovieLens-100k from download to report in one go. In: configs/ml_100k.yaml; out: runs/ml_100k and a
table.

Steps: prepare the data (kept if there), train and evaluate InterFormer (a finished run of the same config is kept),
score two simple baselines on the same rows, write the report again with them in it, print the comparison, export the
model and answer one request with it."""

import json
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from interformer_rec.config.run import RunConfig, load, to_yaml
from interformer_rec.data.recipes.catalog import prepare, prepared
from interformer_rec.demo import serving, simple_baselines
from interformer_rec.errors import InputError, say
from interformer_rec.training import run
from interformer_rec.training.report import page as report

CONFIG = "configs/ml_100k.yaml"
DATA = "data/ml-100k"


def main() -> int:
    """Exit code: 0 fine, 1 the run failed, 2 bad input (no network, another run in the way, ...)."""
    console = Console(highlight=False)
    start = time.monotonic()
    try:
        config = load(CONFIG)
        _prepare(console)
        code = _train(config, console)
        if code == 0:
            baselines = _baselines(config, console)
            test = json.loads((config.run_dir / "evaluation.json").read_text(encoding="utf-8"))["test"]
            where = report.write_report(config.run_dir)
            _show(config, baselines, test, where, time.monotonic() - start, console)
            _answer(config.run_dir, console)
    except InputError as error:
        say(f"demo: {error}")
        return 2
    return code


def _prepare(console: Console) -> None:
    rows = prepared("ml-100k", DATA)
    state = "there already" if rows else "written"
    rows = rows or prepare("ml-100k", DATA)
    console.print(f"data: {DATA} {state}: " + ", ".join(f"{file} {count:,} rows" for file, count in rows.items()))


def _train(config: RunConfig, console: Console) -> int:
    """Train, continue an interrupted run, or keep a finished one."""
    saved = config.run_dir / "config.yaml"
    if saved.exists() and saved.read_text(encoding="utf-8") != to_yaml(config):
        raise InputError(f"{config.run_dir} holds a run of another config; delete that folder to run the demo again")
    if saved.exists() and "test" in _json(config.run_dir / "evaluation.json"):
        console.print(f"training: {config.run_dir} holds the finished run of this config; delete it to train again")
        return 0
    return run.train(config, saved.exists())


def _baselines(config: RunConfig, console: Console) -> dict[str, dict[str, float]]:
    """Metrics by name, also saved as baselines.json for the report."""
    train, test = f"{DATA}/train.parquet", f"{DATA}/test.parquet"
    label = config.features.labels[0].name
    console.print("baselines: item popularity and logistic regression on the same rows")
    found = {
        "item popularity": simple_baselines.popularity(train, test, config.features, "item_id"),
        "logistic regression, no sequences": simple_baselines.logistic_regression(
            train, test, config.features, also=("user_id",)
        ),
    }
    named = {name: {f"{label}/{metric}": value for metric, value in scores.items()} for name, scores in found.items()}
    (config.run_dir / "baselines.json").write_text(json.dumps(named, indent=1), encoding="utf-8")
    return named


def _show(
    config: RunConfig, baselines: dict[str, dict[str, float]], test: dict, where: Path, seconds: float, console: Console
) -> None:
    label = config.features.labels[0].name
    table = Table(title="MovieLens-100k, test rows (the last tenth in time)", title_justify="left")
    for column in ("model", "AUC", "logloss"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for name, scores in {**baselines, "InterFormer": test}.items():
        table.add_row(name, f"{scores[f'{label}/auc']:.4f}", f"{scores[f'{label}/logloss']:.4f}")
    console.print(table)
    console.print(f"{seconds:.0f} s in all")
    console.print(f"report: {where}", soft_wrap=True)
    metrics = {key: round(value, 5) for key, value in test.items() if isinstance(value, (int, float))}
    console.print(f"test metrics: {json.dumps(metrics)}", soft_wrap=True, markup=False)


def _answer(run_dir: Path, console: Console) -> None:
    out = serving.exported(run_dir)
    request, scores = serving.answered(out)
    console.print(f"exported: {out}; one user's {len(request['candidates'])} candidates score:", soft_wrap=True)
    for task, values in scores.items():
        console.print(f"  {task}: " + ", ".join(f"{value:.4f}" for value in values), soft_wrap=True)
    console.print(f"serve it: interformer serve {out} (docs/guides/serving.md)", soft_wrap=True)


def _json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


if __name__ == "__main__":
    sys.exit(main())
