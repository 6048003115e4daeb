"""A study from search to result. In: what the command line chose; out: one dict with every system's runs, costs and comparisons.

Order: cut and check the data, search on validation, then open the test file, train the final runs, count the costs. Everything
but the numbers of `--speed` comes from run folders, so the same command again runs only what is missing.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from benchmarks.harness.machine import facts
from benchmarks.quality.cost import cost, counted, speed
from benchmarks.quality.data import check_inputs, test_file, tuning_files
from benchmarks.quality.known import Known
from benchmarks.quality.runs import SCORES, Procedure, digest, drive, finished, train, worker_pool
from benchmarks.quality.search import Found, search
from benchmarks.quality.sets import Dataset, System
from benchmarks.quality.statistics import Scored, check_same_rows, mean_and_spread, resampled, t_interval
from interformer_rec.config import run as run_config
from interformer_rec.config.run import HIGHER_IS_BETTER, RunConfig
from interformer_rec.errors import InputError
from interformer_rec.metrics.over_users import percentiles

METRICS = ("auc", "gauc", "logloss", "ne", "calibration")
TUNING_SEED = 1_000_000  # no final seed
SPEED = "speed.json"


@dataclass(frozen=True)
class Choices:
    """What the command line chose; `changes` are run-config overrides ("a.b=c") for every run of every system."""

    data: str
    dataset: Dataset
    folder: Path
    out: Path
    systems: Sequence[System]
    seeds: int
    budget: int
    epochs: int
    shuffled: bool = False
    speed: bool = False
    workers: int = 1
    threads: int = 1
    changes: tuple[str, ...] = ()
    known: str | None = None  # an earlier quality.json


class Study:
    """Runs a study; `result()` may be interrupted anywhere and called again."""

    def __init__(self, choices: Choices) -> None:
        """Raises InputError where a system has other inputs than the first, or feedback among them, or rows have no user."""
        self.choices = choices
        self.systems = {system.name: system for system in choices.systems}
        self.cache = choices.out / ("data-shuffled" if choices.shuffled else "data")
        plain = {name: system.config(choices.dataset, {}) for name, system in self.systems.items()}
        first = next((name for name, system in self.systems.items() if not system.own_features), next(iter(plain)))
        self.features = plain[first].features
        for name, config in plain.items():
            check_inputs(choices.dataset, config.features, name)
            if _inputs(config) != _inputs(plain[first]) and not self.systems[name].own_features:
                raise InputError(f"{name} reads other features than {first}: they would not be compared fairly")
        if self.features.group is None:
            raise InputError(f"{choices.dataset.config}: a quality study needs features.group, the column of the user")
        self.known = Known(choices.known, choices.budget)
        self.run_here = [name for name in self.systems if name not in self.known]
        self.label = self.features.labels[0].name
        self.monitor = plain[first].training.monitor

    def result(self) -> dict[str, Any]:
        """The whole study. Raises InputError; Interrupted or KeyboardInterrupt with everything saved."""
        choices = self.choices
        arguments = (choices.dataset, self.features, choices.folder, self.cache, choices.shuffled)
        self.files = tuning_files(*arguments)
        what = {
            "data": choices.data,
            "rows": {name: pq.read_metadata(path).num_rows for name, path in asdict(self.files).items()},
            "seeds": list(range(choices.seeds)),
            "budget": choices.budget,
            "epochs": choices.epochs,
            "shuffled": choices.shuffled,
        }
        self.known.check(what)
        known = {name: self._known_row(name) for name in self.systems if name in self.known}
        with worker_pool(choices.workers, choices.threads) as pool:
            found = drive(pool, {name: self._search(self.systems[name]) for name in self.run_here})
            found |= {name: self.known.found(name) for name in known}
            test = test_file(*arguments)
            finals = {
                (name, seed): self._final(name, seed, found[name], test)
                for seed in range(choices.seeds)
                for name in self.systems
            }
            results = drive(
                pool,
                {f"{name}/{s}": self._train(name, s, run) for (name, s), run in finals.items() if name not in known},
            )
            costs = drive(pool, {name: _cost(finals[name, 0]) for name in self.run_here})
            speeds = self._speeds(pool, {name: finals[name, 0] for name in self.systems})
        rows = [known.get(name) or self._row(name, found[name], finals, results, costs[name]) for name in self.systems]
        rows = [{**row, "trained_rows_per_second": speeds.get(row["name"])} for row in rows]
        return {
            "benchmark": "quality",
            **facts(torch.device("cpu")),
            **what,
            "systems": rows,
            **self._comparisons(rows, finals),
        }

    def config(self, system: System, settings: dict[str, Any], seed: int, test: Path | None = None) -> RunConfig:
        """A run of the study, its folder aside. The number of epochs is bounded alike for all; validation picks among them.

        Alike is how often a weight is trained on a row: an embedding ensemble has as many epochs for each member. Epochs of
        history pre-training come before.
        """
        plain = system.config(self.choices.dataset, settings, self.choices.changes)
        fixed = {
            "seed": seed,
            "data.train": str(self.files.train),
            "data.valid": str(self.files.valid),
            "data.test": str(test) if test else None,
            "training.epochs": self.choices.epochs * plain.model.ensemble_members + plain.data.pretraining_epochs,
            "training.patience": None,
            "training.checkpoint.keep": 1,
            "training.out": "unnamed",
        }
        return system.config(self.choices.dataset, {**settings, **fixed}, self.choices.changes)

    def _placed(self, config: RunConfig, system: str, folder: str) -> RunConfig:
        out = str(self.choices.out / "runs" / system / folder)
        return config.model_copy(update={"training": config.training.model_copy(update={"out": out})})

    def _known_row(self, name: str) -> dict[str, Any]:
        test = Path(self.choices.dataset.test)  # wherever it lies: it is not opened
        runs = [self._final(name, seed, self.known.found(name), test) for seed in range(self.choices.seeds)]
        return self.known.row(name, [run.run_dir.name for run in runs])

    def _search(self, system: System) -> Procedure[Found]:
        def make(settings: dict[str, Any], folder: str) -> RunConfig:
            return self._placed(self.config(system, settings, TUNING_SEED), system.name, folder)

        monitored = f"{self.label}/{self.monitor}"
        return search(system, self.choices.budget, make, monitored, HIGHER_IS_BETTER[self.monitor])

    def _final(self, name: str, seed: int, found: Found, test: Path) -> RunConfig:
        config = self.config(self.systems[name], found.settings, seed, test)
        return self._placed(config, name, f"seed-{seed}-{digest(config)}")

    def _train(self, name: str, seed: int, config: RunConfig) -> Procedure[dict[str, Any]]:
        result = finished(config)
        if result is None:
            result = yield train, (run_config.to_yaml(config),)
            test = result.get("test", {}).get(f"{self.label}/auc")
            print(f"{name} seed {seed}: test AUC {test}, {result['seconds']:.0f} s", flush=True)
        if "failed" in result:
            raise InputError(f"{name}, seed {seed}: {result['failed']}")
        return result

    def _speeds(self, pool: ProcessPoolExecutor, runs: dict[str, RunConfig]) -> dict[str, float]:
        """Measured now with --speed, else what an earlier --speed has left; nothing else runs meanwhile."""
        path = self.choices.out / SPEED
        measured: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if self.choices.speed:
            texts = {name: run_config.to_yaml(run) for name, run in runs.items()}
            measured |= drive(pool, {"": _one(speed, texts, self.choices.threads)})[""]
            path.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
        return measured

    def _row(
        self,
        name: str,
        found: Found,
        finals: dict[tuple[str, int], RunConfig],
        results: dict[str, dict[str, Any]],
        costs: dict[str, float],
    ) -> dict[str, Any]:
        runs = []
        for seed in range(self.choices.seeds):
            result = results[f"{name}/{seed}"]
            metrics = {split: self._metrics(result[split]) for split in ("valid", "test")}
            runs.append({"seed": seed, "epoch": result["epoch"], "folder": finals[name, seed].run_dir.name, **metrics})
        measured = [metric for metric in METRICS if metric in runs[0]["test"]]
        return {
            "name": name,
            "kind": self.systems[name].kind,
            "own_features": self.systems[name].own_features,
            "settings": found.settings,
            **costs,
            **{metric: mean_and_spread([run["test"][metric] for run in runs]) for metric in measured},
            "runs": runs,
            "trials": found.trials,
        }

    def _metrics(self, values: dict[str, Any]) -> dict[str, float]:
        return {metric: values[f"{self.label}/{metric}"] for metric in METRICS if f"{self.label}/{metric}" in values}

    def _comparisons(self, rows: list[dict[str, Any]], finals: dict[tuple[str, int], RunConfig]) -> dict[str, Any]:
        """InterFormer minus every other system on the same seeds and rows; `best` is the other with the highest mean AUC."""
        by_name = {row["name"]: row for row in rows}
        others = [row for row in rows if row["name"] != "interformer"]
        if "interformer" not in by_name or not others:
            return {}
        scores = self._scores("interformer", finals)
        drawn = resampled(scores) if scores else {}
        found = {}
        for row in others:
            theirs = self._scores(row["name"], finals)
            drawn_theirs = {}
            if scores and theirs:
                check_same_rows(scores, theirs)
                drawn_theirs = resampled(theirs)
            over_users = {metric: percentiles(drawn[metric] - drawn_theirs[metric]) for metric in drawn_theirs}
            ours = by_name["interformer"]
            found[row["name"]] = {
                metric: _difference(
                    ours["runs"],
                    row["runs"],
                    metric,
                    over_users.get(metric) or self.known.over_users(row["name"], metric, self.choices.seeds),
                )
                for metric in METRICS
                if metric in ours and metric in row
            }
        best = max(others, key=lambda row: row["auc"]["mean"])["name"]
        return {"differences": found, "best": best}

    def _scores(self, name: str, finals: dict[tuple[str, int], RunConfig]) -> list[Scored]:
        """Of every seed; none of a system whose runs are not here."""
        found: list[Scored] = []
        if name in self.known:
            return found
        for seed in range(self.choices.seeds):
            table = pq.read_table(finals[name, seed].run_dir / SCORES)
            found.append(Scored(*(table[column].to_numpy() for column in ("label", "score", "user"))))
        return found


def _inputs(config: RunConfig) -> dict[str, Any]:
    """The features without the labels: a system may learn from further labels, but not read further columns."""
    return config.features.model_dump(exclude={"labels"})


def _difference(
    ours: list[dict[str, Any]], theirs: list[dict[str, Any]], metric: str, over_users: list[float] | None
) -> dict[str, Any]:
    values = [a["test"][metric] - b["test"][metric] for a, b in zip(ours, theirs, strict=True)]
    return {**mean_and_spread(values), "over_seeds": t_interval(values), "over_users": over_users}


def _cost(config: RunConfig) -> Procedure[dict[str, float]]:
    return counted(config) or (yield cost, (run_config.to_yaml(config),))


def _one(function: Any, *arguments: Any) -> Procedure[Any]:
    """A procedure of one call."""
    return (yield function, arguments)
