"""What a new user gets: every kind of model by `interformer inspect`'s draft alone, on several data sets, nothing tuned.

A draft a data set and kind, some seeds each; validation picks the epoch as the draft says, the test rows are scored once. Where a data
set has no test rows the valid rows are scored, and the result says so. The same command again runs only what is missing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.harness.machine import facts
from benchmarks.quality.report import interval, spread
from benchmarks.quality.runs import SCORES, Procedure, digest, drive, finished, train, worker_pool
from benchmarks.quality.statistics import Scored, check_same_rows, mean_and_spread, resampled, t_interval
from interformer_rec.config import run as run_config
from interformer_rec.config.run import RunConfig
from interformer_rec.data.inspect.command import decisions, inspect_folder
from interformer_rec.errors import InputError
from interformer_rec.metrics.over_users import percentiles

OURS = "interformer"
KINDS = (OURS, "din", "dcnv2", "bst")
FOLDERS = {"synthetic": "data/synthetic", "ml_100k": "data/ml-100k", "completejourney": "data/completejourney"}
METRICS = ("auc", "gauc", "logloss", "ne")


@dataclass(frozen=True)
class DraftChoices:
    """What the command line chose. `folders`: data set -> its folder; `changes`: run-config overrides ("a.b=c") for all."""

    folders: Mapping[str, str]
    kinds: tuple[str, ...]
    out: Path
    seeds: int
    workers: int = 1
    threads: int = 1
    changes: tuple[str, ...] = ()


def folders_of(data: str | None) -> dict[str, str]:
    """--data of --drafts: names of FOLDERS, or NAME=FOLDER for data of one's own, by comma; all of FOLDERS where it is not given.

    Raises InputError.
    """
    found = {}
    for part in data.split(",") if data else FOLDERS:
        name, given, folder = part.strip().partition("=")
        if not given and name not in FOLDERS:
            raise InputError(f"--data {name!r} is none of {', '.join(FOLDERS)}; data of your own: NAME=FOLDER")
        found[name] = folder if given else FOLDERS[name]
    for name, folder in found.items():
        if not Path(folder).is_dir():
            recipe = f": interformer data {name.replace('_', '-')} --out {folder}" if name in FOLDERS else ""
            raise InputError(f"--data {name}: there is no folder {folder!r}{recipe}")
    return found


class Drafts:
    """Runs the drafts; `result()` may be interrupted anywhere and called again."""

    def __init__(self, choices: DraftChoices) -> None:
        """Drafts every data set and kind. Raises InputError where a draft needs a decision or has no valid rows."""
        self.choices = choices
        self.texts = {
            (data, kind): self._draft(data, folder, kind)
            for data, folder in choices.folders.items()
            for kind in choices.kinds
        }

    def result(self) -> dict[str, Any]:
        """The whole comparison. Raises InputError; Interrupted or KeyboardInterrupt with everything saved."""
        choices = self.choices
        runs = {(*place, seed): self._config(place, seed) for seed in range(choices.seeds) for place in self.texts}
        with worker_pool(choices.workers, choices.threads) as pool:
            results = drive(pool, {"/".join(map(str, place)): _trained(place, run) for place, run in runs.items()})
        rows = [self._row(data, kind, runs, results) for data, kind in self.texts]
        return {
            "benchmark": "quality_drafts",
            **facts(torch.device("cpu")),
            "seeds": list(range(choices.seeds)),
            "changes": list(choices.changes),
            "systems": rows,
            "differences": [self._difference(data, kind, rows, runs) for data, kind in self.texts if kind != OURS],
        }

    def _draft(self, data: str, folder: str, kind: str) -> str:
        path = self.choices.out / "drafts" / f"{data}-{kind}.yaml"
        text = inspect_folder(folder, kind)
        open_ones = decisions(text)
        if open_ones:
            raise InputError(f"the draft of {folder} is not finished: {open_ones[0]}")
        config = run_config.parse_yaml(text, str(path), self.choices.changes)
        if config.data.valid is None:
            raise InputError(f"the draft of {folder} has no data.valid: nothing would pick the epoch")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return text

    def _config(self, place: tuple[str, str], seed: int) -> RunConfig:
        data, kind = place
        plain = run_config.parse_yaml(self.texts[place], f"draft of {data}", self.choices.changes)
        test = plain.data.test or plain.data.valid
        fixed = [f"seed={seed}", f"data.test={test}", "training.checkpoint.keep=1", "training.out=unnamed"]
        config = run_config.parse_yaml(self.texts[place], f"draft of {data}", [*self.choices.changes, *fixed])
        out = self.choices.out / "runs" / data / f"{kind}-{seed}-{digest(config)}"
        return config.model_copy(update={"training": config.training.model_copy(update={"out": str(out)})})

    def _row(
        self, data: str, kind: str, runs: dict[tuple[str, str, int], RunConfig], results: dict[str, dict[str, Any]]
    ) -> dict[str, Any]:
        seeds = [results[f"{data}/{kind}/{seed}"] for seed in range(self.choices.seeds)]
        label = runs[data, kind, 0].features.labels[0].name
        plain = run_config.parse_yaml(self.texts[data, kind], f"draft of {data}", self.choices.changes)
        values = {
            metric: [result["test"][f"{label}/{metric}"] for result in seeds]
            for metric in METRICS
            if f"{label}/{metric}" in seeds[0]["test"]
        }
        return {
            "data": data,
            "kind": kind,
            "tested": "test" if plain.data.test else "valid",
            **{metric: mean_and_spread(found) for metric, found in values.items()},
            "seconds": mean_and_spread([result["seconds"] for result in seeds]),
            "epochs": [result["epoch"] for result in seeds],
            "runs": values,
        }

    def _difference(
        self, data: str, kind: str, rows: list[dict[str, Any]], runs: dict[tuple[str, str, int], RunConfig]
    ) -> dict[str, Any]:
        """InterFormer minus another kind on the same seeds and rows, with intervals over seeds and over users."""
        by_kind = {row["kind"]: row["runs"] for row in rows if row["data"] == data}
        if OURS not in by_kind:
            return {"data": data, "kind": kind}
        ours, theirs = (self._scores(data, one, runs) for one in (OURS, kind))
        check_same_rows(ours, theirs)
        drawn, other = resampled(ours), resampled(theirs)
        found: dict[str, Any] = {"data": data, "kind": kind}
        for metric in (metric for metric in drawn if metric in by_kind[OURS]):
            values = [a - b for a, b in zip(by_kind[OURS][metric], by_kind[kind][metric], strict=True)]
            over_users = percentiles(drawn[metric] - other[metric])
            found[metric] = {**mean_and_spread(values), "over_seeds": t_interval(values), "over_users": over_users}
        return found

    def _scores(self, data: str, kind: str, runs: dict[tuple[str, str, int], RunConfig]) -> list[Scored]:
        found = []
        for seed in range(self.choices.seeds):
            table = pq.read_table(runs[data, kind, seed].run_dir / SCORES)
            user = table["user"].to_numpy() if "user" in table.column_names else range(table.num_rows)
            found.append(Scored(table["label"].to_numpy(), table["score"].to_numpy(), user))
        return found


def _trained(place: tuple[str, str, int], config: RunConfig) -> Procedure[dict[str, Any]]:
    result = finished(config)
    if result is None:
        result = yield train, (run_config.to_yaml(config),)
        print(f"{'/'.join(map(str, place))}: {result.get('seconds', 0):.0f} s", flush=True)
    if "failed" in result:
        raise InputError(f"{' '.join(map(str, place))}: {result['failed']}")
    return result


def show_drafts(result: dict[str, Any], console: Console) -> None:
    """A table a data set, the highest AUC first."""
    for data in dict.fromkeys(row["data"] for row in result["systems"]):
        rows = [row for row in result["systems"] if row["data"] == data]
        title = f"{data}, {rows[0]['tested']} rows: {len(result['seeds'])} seed(s), drafts only"
        table = Table(title=title, title_justify="left")
        for column in ("kind", *METRICS, "seconds", "AUC, InterFormer minus it"):
            table.add_column(column, justify="left" if column == "kind" else "right")
        differences = {one["kind"]: one.get("auc") for one in result["differences"] if one["data"] == data}
        for row in sorted(rows, key=lambda row: -row["auc"]["mean"]):
            table.add_row(*_cells(row, differences.get(row["kind"])))
        console.print(table)


def _cells(row: dict[str, Any], difference: dict[str, Any] | None) -> list[str]:
    metrics = [spread(row.get(metric)) for metric in METRICS]
    return [row["kind"], *metrics, f"{row['seconds']['mean']:,.0f}", interval(difference) if difference else "-"]
