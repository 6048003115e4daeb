"""A run folder becomes one page. In: the files a run leaves; out: report.html, self-contained, readable offline.

Every file but config.yaml may be missing: its section then says so, and a report can be written while a run still goes.
The same files give the same bytes.
"""

import json
from itertools import accumulate
from pathlib import Path
from typing import Any

from interformer_rec import strict_yaml
from interformer_rec.errors import InputError
from interformer_rec.files import write_whole
from interformer_rec.html import environment as html
from interformer_rec.planning.page.page import ITEM_BYTES
from interformer_rec.redaction import redact
from interformer_rec.text import number
from interformer_rec.training.folder.run_log import read_log
from interformer_rec.training.report.figures import METRICS, by_label, curve_figure, figure, points
from interformer_rec.training.report.plots import Series, calibration
from interformer_rec.training.report.windows import windows_of

HERE = Path(__file__).parent
SPLITS = ("train", "valid", "test")

DATA = {"rows": "rows", "bad_rows": "bad rows skipped"}


def write_report(run_dir: Path) -> Path:
    """Write run_dir/report.html and return its path.

    Raises InputError if run_dir has no config.yaml, or a file of it cannot be read.
    """
    run_dir = Path(run_dir)
    config = _config(run_dir)
    records = read_log(run_dir)
    train = [record for record in records if record["split"] == "train"]
    evaluations = _evaluations(_json(run_dir, "evaluation.json"), records)
    data = _json(run_dir, "data.json")
    page = {
        "name": _name(config, run_dir),
        "metric_names": METRICS,
        "evaluations": evaluations,
        "progress": _progress(train),
        "plots": _plots(train, [record for record in records if record["split"] == "valid"], evaluations),
        "windows": windows_of(records),
        "baselines": _baselines(_json(run_dir, "baselines.json"), evaluations),
        "data": data,
        "data_columns": _columns_of(data or {}),
        "plan": _tables(_json(run_dir, "plan.json"), run_dir),
        "config": config,
        "environment": _flat(_json(run_dir, "environment.json") or {}),
    }
    target = run_dir / "report.html"
    write_whole(target, html.render(HERE, "page.html.j2", page))
    return target


def _config(run_dir: Path) -> str:
    try:
        return _read(run_dir / "config.yaml")
    except OSError as error:
        raise InputError(
            f"{str(run_dir)!r} is not a run folder: cannot read its config.yaml ({error.strerror or error})"
        ) from None


def _read(path: Path) -> str:
    """A file's text without credentials: reports get passed around."""
    return redact(path.read_text(encoding="utf-8"))


def _name(config: str, run_dir: Path) -> str:
    tree = strict_yaml.parse(config, f"config {str(run_dir / 'config.yaml')!r}")
    return str(tree.get("name", run_dir.name)) if isinstance(tree, dict) else run_dir.name


def _json(run_dir: Path, name: str) -> Any:
    """A file's content, None if it is not there."""
    path = run_dir / name
    try:
        return json.loads(_read(path))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{str(path)!r} is not valid JSON ({error}): delete it, or run the evaluation again") from None


def _tables(plan: dict[str, Any] | None, run_dir: Path) -> list[dict[str, Any]]:
    """A row for each table of a plan file."""
    if plan is None:
        return []
    try:
        return [
            {
                **shape,
                "table": name,
                "sharding": plan["tables"][name]["sharding"],
                "kernel": plan["tables"][name]["kernel"],
                "ranks": sorted({shard[0] for shard in plan["tables"][name]["shards"]}),
                "bytes": shape["rows"] * shape["dim"] * ITEM_BYTES[shape["dtype"]],
            }
            for name, shape in sorted(plan["fingerprint"]["tables"].items())
        ]
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(
            f"{str(run_dir / 'plan.json')!r} is not a plan ({error!r}): delete it, or train again in a new folder"
        ) from None


def _columns_of(data: dict[str, Any]) -> dict[str, str]:
    """Facts that at least one of the data sets has, and their headings."""
    return {key: title for key, title in DATA.items() if any(key in data.get(split, {}) for split in SPLITS)}


def _evaluations(saved: dict[str, Any] | None, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Data sets that were scored, test first: {split, step, rows, labels: {label: {metric: value}}, bins}.

    A run that is not finished has its last validation instead, without bins.
    """
    found = []
    for split in ("test", "valid"):
        logged = [record for record in records if record["split"] == split]
        values = (saved or {}).get(split) or (logged[-1] if logged else None)
        if values:
            found.append(
                {
                    "split": split,
                    "final": bool((saved or {}).get(split)),
                    "step": values.get("step"),
                    "rows": values.get("rows"),
                    "seconds": values.get("seconds"),
                    "labels": by_label(values),
                    "bins": values.get("calibration_bins") or {},
                }
            )
    return found


def _progress(train: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Steps, rows (in history pre-training events) and time so far; samples/s of all log intervals but the first, the warm-up."""
    if not train:
        return None
    train = [{**record, "rows": record.get("events", record.get("rows"))} for record in train]
    rows, seconds = (sum(number(record.get(key)) or 0.0 for record in train) for key in ("rows", "seconds"))
    warm = train[1:] or train
    warm_rows, warm_seconds = (sum(number(record.get(key)) or 0.0 for record in warm) for key in ("rows", "seconds"))
    speed = warm_rows / warm_seconds if warm_seconds else None
    return {"step": train[-1]["step"], "rows": rows, "seconds": seconds, "samples_per_second": speed}


def _plots(
    train: list[dict[str, Any]], valid: list[dict[str, Any]], evaluations: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """{title, about, svg, legend} of every plot there is data for."""
    labels = list(dict.fromkeys(label for record in valid for label in by_label(record)))
    loss = [Series("training loss", points(train, "loss"))]
    if len(labels) == 1:  # with several labels the loss is a weighted sum: another unit
        loss.append(Series(f"{labels[0]}: logloss, validation", points(valid, f"{labels[0]}/logloss"), "dots"))
    plots = [curve_figure("Loss", "Mean of the steps since the last record.", loss, "loss")]
    for metric in ("auc", "gauc", "gauc_request", "ne"):
        series = [Series(label, points(valid, f"{label}/{metric}"), "dots") for label in labels]
        about = "Validation set, all rows of all ranks." + (" Below 1 is better than the base rate." * (metric == "ne"))
        plots.append(curve_figure(METRICS[metric], about, series, METRICS[metric]))
    plots.append(_calibration(evaluations))
    times = list(accumulate(number(record.get("seconds")) or 0.0 for record in train))
    unit, seconds = ("minutes", 60) if times and times[-1] > 180 else ("seconds", 1)
    timed = [{**record, "step": time / seconds} for record, time in zip(train, times, strict=True)]
    for title, key, about in (
        (
            "Throughput",
            "samples_per_second",
            "Rows, in history pre-training events, of all ranks; evaluations and checkpoints not counted.",
        ),
        ("Waiting for data", "data_wait_share", "Share of the time in which a rank waited for its next batch."),
    ):
        series = [Series(title.lower(), points(timed, key))]
        y = "samples / s" if key == "samples_per_second" else "share"
        percent = key == "data_wait_share"
        plots.append(curve_figure(title, about, series, y, f"{unit} of training", from_zero=True, percent=percent))
    return [plot for plot in plots if plot is not None]


def _calibration(evaluations: list[dict[str, Any]]) -> dict[str, Any] | None:
    for evaluation in evaluations:
        series = [
            Series(label, tuple((one["mean_score"], one["mean_label"]) for one in bins), "dots")
            for label, bins in evaluation["bins"].items()
            if bins
        ]
        if series:
            about = f"{evaluation['split'].capitalize()} set, in bins of equal weight; on the dashed line, they agree."
            return figure("Calibration", about, series, calibration(series))
    return None


def _baselines(saved: dict[str, Any] | None, evaluations: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Columns (label, metric) and rows (name, values), this run's first; all on the test set."""
    if not saved:
        return None
    columns = list(dict.fromkeys(key for values in saved.values() for key in values if key.rpartition("/")[1]))
    run: dict[str, dict[str, Any]] = next((one["labels"] for one in evaluations if one["split"] == "test"), {})
    names = [key.rpartition("/") for key in columns]
    mine = [run.get(label, {}).get(metric) for label, _, metric in names]
    several = len({label for label, _, _ in names}) > 1
    heads = [METRICS.get(metric, metric) + f", {label}" * several for label, _, metric in names]
    others = [(name, [values.get(key) for key in columns]) for name, values in saved.items()]
    return {"heads": heads, "rows": [("InterFormer (this run)", mine), *others]}


def _flat(tree: dict[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """Nested keys as `a.b`."""
    rows: list[tuple[str, Any]] = []
    for key, value in tree.items():
        name = f"{above}{key}"
        rows += _flat(value, f"{name}.") if isinstance(value, dict) and value else [(name, value)]
    return rows
