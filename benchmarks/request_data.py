"""One data set as request rows and as impressions: the same candidates in the same batches, one training each, the same metrics?

    python -m benchmarks.request_data configs/completejourney_requests.yaml --impressions data/completejourney \\
        --requests data/completejourney_requests --train 'week=3*/*.parquet' --valid 'week=4[01]/*.parquet' [--set a.b=c ...] [--json PATH]

CONFIG is of request rows; that of the impressions is the same without features.request. `interformer data group` has made the one folder
of the other. What is drawn for a request in one form and for each of its rows in the other is left out: no shuffling, no dropout, no id
dropout. So both forms take the same steps, and their losses and metrics have to agree. Steps are taken in turns of --turn each; times are
CPU seconds of the process, loader threads included, of one thread of torch.
"""

import argparse
import itertools
import sys
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.harness.machine import facts
from benchmarks.harness.result_file import write_result
from interformer_rec import strict_yaml
from interformer_rec.config.run import RunConfig, parse_yaml
from interformer_rec.data.fit import fit
from interformer_rec.data.loader import Loader
from interformer_rec.distributed.environment import Environment, process_group
from interformer_rec.training.build import build_parallel, train_loader
from interformer_rec.training.pipeline import Pipeline
from interformer_rec.training.scoring.evaluation import evaluate
from interformer_rec.training.skipped import SkippedRows

FORMS = ("requests", "impressions")
NEAR = 1e-4  # the metrics of both forms
SAME = ("data.shuffle_rows=0", "data.id_dropout=0", "model.dropout=0", "training.device=cpu")


class Form:
    """A run of one form: takes steps, and is evaluated at the end."""

    def __init__(self, config: RunConfig, env: Environment, steps: int | None) -> None:
        assert config.data.train is not None and config.data.valid is not None
        self.config, self.env = config, env
        fitted = fit(config.features, config.data.train)
        self.pipeline = Pipeline(build_parallel(config, env, fitted), env, config.training.precision, config.seed)
        loader = train_loader(config, env, fitted)
        self.steps = min(loader.steps, steps or loader.steps)
        self._stream = self.pipeline.run(itertools.islice(loader.batches(), self.steps), train=True)
        part = (env.rank, env.world_size)
        self._valid = Loader(config.data.valid, config.features, fitted, config.data, config.seed, part)
        self.losses: list[float] = []
        self.seconds: list[float] = []  # of each turn
        self.rows = 0

    def turn(self, steps: int) -> None:
        """So many steps, or those that are left."""
        start = time.process_time()
        for step in itertools.islice(self._stream, steps):
            self.losses.append(step.loss.item())
            self.rows += step.batch.rows
        self.seconds.append(time.process_time() - start)

    def evaluate(self) -> tuple[dict[str, float], float]:
        """Metrics of the validation rows, and the CPU seconds that they took."""
        start = time.process_time()
        rows = SkippedRows(self._valid, self.config.data.max_bad_rows, "data.valid", self.env)
        metrics = evaluate(self.pipeline, rows, self.config.features).metrics
        metrics.pop("seconds")
        return metrics, time.process_time() - start


def configs(options: argparse.Namespace) -> dict[str, RunConfig]:
    """Of both forms; they differ in the files and in features.request alone."""
    tree = strict_yaml.read(options.config, "config")
    request = tree["features"].pop("request")
    found = {}
    for form in FORMS:
        own = {"request": request} if form == "requests" else {"candidate": request["candidates"]}
        files = {name: str(Path(getattr(options, form)) / getattr(options, name)) for name in ("train", "valid")}
        one = {**tree, "features": {**tree["features"], **own}, "data": {**tree["data"], **files, "test": None}}
        found[form] = parse_yaml(strict_yaml.dump(one), f"{options.config} ({form})", [*options.set, *SAME])
    return found


def compare(options: argparse.Namespace, env: Environment) -> dict[str, Any]:
    """Train both forms. Raises RuntimeError where a metric differs by more than NEAR."""
    forms = {form: Form(config, env, options.steps) for form, config in configs(options).items()}
    counts = {form: one.steps for form, one in forms.items()}
    if len(set(counts.values())) > 1:
        raise RuntimeError(
            f"the forms have different numbers of steps ({counts}): group --requests from --impressions again"
        )
    for _ in range(-(-counts["requests"] // options.turn)):
        for one in forms.values():
            one.turn(options.turn)
    results: dict[str, Any] = {}
    for form, one in forms.items():
        metrics, seconds = one.evaluate()
        results[form] = {
            "metrics": metrics,
            "training_cpu_s": sum(one.seconds),
            "evaluation_cpu_s": seconds,
            "rows": one.rows,
            "bytes": sum(file.stat().st_size for file in Path(getattr(options, form)).glob(options.train)),
        }
    ours, theirs = (results[form]["metrics"] for form in FORMS)
    # GAUC by request has the one form alone
    differences = {name: abs(ours[name] - value) for name, value in theirs.items()}
    losses = zip(forms["requests"].losses, forms["impressions"].losses, strict=True)
    found = {
        **results,
        "steps": counts["requests"],
        "batch": forms["requests"].config.data.batch_size,
        "largest_difference_of_a_metric": max(differences.values()),
        "largest_difference_of_a_loss": max(abs(mine - other) for mine, other in losses),
        "training_times_faster": results["impressions"]["training_cpu_s"] / results["requests"]["training_cpu_s"],
        "evaluation_times_faster": results["impressions"]["evaluation_cpu_s"] / results["requests"]["evaluation_cpu_s"],
        "bytes_smaller": results["impressions"]["bytes"] / results["requests"]["bytes"],
    }
    if not found["largest_difference_of_a_metric"] <= NEAR:
        raise RuntimeError(f"the forms' metrics differ: {ours} against {theirs}")
    return found


def table(found: dict[str, Any]) -> Table:
    """For the terminal."""
    shown = Table(box=None, header_style="bold")
    for name in ("", *FORMS, "ratio or difference"):
        shown.add_column(name, justify="right" if name else "left")
    for name in found["impressions"]["metrics"]:
        values = [found[form]["metrics"][name] for form in FORMS]
        shown.add_row(name, *(f"{value:.6f}" for value in values), f"{abs(values[0] - values[1]):.1e}")
    for name, ratio in (
        ("training_cpu_s", "training_times_faster"),
        ("evaluation_cpu_s", "evaluation_times_faster"),
        ("bytes", "bytes_smaller"),
    ):
        shown.add_row(name, *(f"{found[form][name]:,.1f}" for form in FORMS), f"{found[ratio]:.2f}")
    return shown


def main() -> None:
    """Parse, train, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", metavar="CONFIG")
    for form in FORMS:
        parser.add_argument(f"--{form}", metavar="DIR", required=True)
    parser.add_argument("--train", metavar="GLOB", required=True, help="files of both folders")
    parser.add_argument("--valid", metavar="GLOB", required=True)
    parser.add_argument("--steps", type=int, help="default: an epoch")
    parser.add_argument("--turn", type=int, default=20, help="steps of one form before the other's")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c")
    parser.add_argument("--json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with process_group("cpu") as env:
        found = compare(options, env)
    Console(width=None if sys.stdout.isatty() else 160).print(table(found))
    command = " ".join(["python -m benchmarks.request_data", *sys.argv[1:]])
    write_result(options.json, {"benchmark": "request_data", **facts(torch.device("cpu")), "command": command, **found})


if __name__ == "__main__":
    main()
