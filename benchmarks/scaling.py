"""The whole training step on 1, 2 and 4 ranks: Parquet, tables, all-to-all, dense part, optimizers. One thread a rank.

    python -m benchmarks.scaling [CONFIG] [--set a.b=c] [--ranks 1,2,4] [--lengths 64,256,1024] [--steps 30] [--rounds 3]
        [--scaling weak] [--json PATH]

CONFIG is a run config; without one configs/kuairand_pure.yaml (environment variable KUAIRAND_PURE), else synthetic data.
--lengths: synthetic data for each longest history instead, in batches of about EVENTS events a rank. Each turn
starts fresh processes, trains 5 steps unmeasured and --steps measured ones; numbers of ranks take turns. weak: every rank has the
config's batch size; strong: they share it. Efficiency is samples/s over ranks times the one-rank median. More
ranks than cores say only that it works.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from rich.console import Console
from rich.table import Table

from benchmarks.harness.machine import facts
from benchmarks.harness.result_file import write_result
from interformer_rec.config import run as run_config
from interformer_rec.config.run import RunConfig
from interformer_rec.data.fit import Fitted, fit
from interformer_rec.data.recipes import synthetic
from interformer_rec.distributed.environment import process_group
from interformer_rec.training.build import build_parallel, train_loader
from interformer_rec.training.pipeline import Pipeline

WARM_UP = 5
EVENTS = 16_384
KUAIRAND = Path(__file__).parents[1] / "configs" / "kuairand_pure.yaml"


def train_some(rank: int, ranks: int, store: str, path: str, features: str, steps: int, answer: Any) -> None:
    """In a child: one rank's part of a turn; rank 0 sends rows/s, the share of time spent waiting for data, and step times."""
    torch.set_num_threads(1)
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    os.environ.update({name: str(value) for name, value in zip(names, (rank, ranks, rank, ranks), strict=True)})
    config = run_config.load(path, ["data.history_pretraining=null"])  # steps of whole rows
    with process_group(config.training.device, rendezvous=f"file://{store}") as env:
        fitted = Fitted.load(Path(features))
        parallel = build_parallel(config, env, fitted, lambda: WARM_UP + steps)
        pipeline = Pipeline(parallel, env, config.training.precision, config.seed)
        loader = train_loader(config, env, fitted)
        stream = itertools.islice(_forever(loader), WARM_UP + steps)
        rows, waited, times = 0, 0.0, []
        began = last = time.perf_counter()
        for number, step in enumerate(pipeline.run(stream, train=True), start=1):
            step.loss.item()  # waits for the device
            now = time.perf_counter()
            if number > WARM_UP:
                rows, waited = rows + step.batch.rows, waited + step.wait_seconds
                times.append(now - last)
            else:
                began = now
            last = now
        total = torch.tensor([rows, waited, last - began], dtype=torch.float64, device=env.device)
        dist.all_reduce(total)
        if env.is_main:
            seconds = float(total[2]) / ranks
            rate, waiting = float(total[0]) / seconds, float(total[1] / total[2])
            answer.put({"samples_per_second": rate, "data_wait_share": waiting, "times": times})


def _forever(loader: Any) -> Any:
    for epoch in itertools.count():
        yield from loader.batches(epoch)


def turn(ranks: int, path: str, features: str, steps: int) -> dict[str, Any]:
    """Fresh processes, forked from one that has loaded torch; one measurement."""
    context = mp.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    answer: Any = context.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        children = [
            context.Process(target=train_some, args=(rank, ranks, f"{folder}/store", path, features, steps, answer))
            for rank in range(ranks)
        ]
        for child in children:
            child.start()
        for child in children:
            child.join()
        if any(child.exitcode for child in children):
            raise RuntimeError(f"a rank of {ranks} failed; its message is above")
    return answer.get()


def measure(config: RunConfig, counts: list[int], steps: int, rounds: int, scaling: str) -> list[dict[str, Any]]:
    """One row a number of ranks."""
    found: dict[int, list[dict[str, Any]]] = {count: [] for count in counts}
    with tempfile.TemporaryDirectory() as folder:
        features = Path(folder) / "features"
        assert config.data.train is not None
        fit(config.features, config.data.train, 1).save(features)
        paths = {}
        for count in counts:
            size = config.data.batch_size if scaling == "weak" else max(1, config.data.batch_size // count)
            sized = config.model_copy(update={"data": config.data.model_copy(update={"batch_size": size})})
            paths[count] = Path(folder) / f"{count}.yaml"
            paths[count].write_text(run_config.to_yaml(sized), encoding="utf-8")
        for number in range(rounds):
            for count in counts if number % 2 == 0 else counts[::-1]:
                found[count].append(turn(count, str(paths[count]), str(features), steps))
    rows = []
    for count, turns in found.items():
        times = [seconds for one in turns for seconds in one["times"]]
        rates = [one["samples_per_second"] for one in turns]
        rows.append(
            {
                "run": config.name,
                "ranks": count,
                "scaling": scaling,
                "batch_size": config.data.batch_size if scaling == "weak" else config.data.batch_size // count,
                "samples_per_second": statistics.median(rates),
                "slowest_turn": min(rates),
                "fastest_turn": max(rates),
                "data_wait_share": statistics.median(one["data_wait_share"] for one in turns),
                "p50_ms": statistics.median(times) * 1e3,
                "p99_ms": sorted(times)[int(0.99 * (len(times) - 1))] * 1e3,
                "repeats": len(times),
            }
        )
    single = next((row["samples_per_second"] for row in rows if row["ranks"] == 1), None)
    for row in rows:
        row["speedup"] = row["samples_per_second"] / single if single else None
        row["efficiency"] = row["speedup"] / row["ranks"] if single else None
    return rows


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--ranks", default="1,2,4")
    parser.add_argument("--lengths", type=lambda text: [int(part) for part in text.split(",")])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scaling", choices=("weak", "strong"), default="weak")
    parser.add_argument("--json")
    options = parser.parse_args()
    if options.lengths and options.config:
        parser.error("--lengths makes synthetic data for each length: leave CONFIG out, or --lengths")
    if options.lengths and min(options.lengths) < 1:
        parser.error(f"--lengths {min(options.lengths)}: a longest history has at least 1 event")
    torch.set_num_threads(1)
    counts = [int(count) for count in options.ranks.split(",")]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for longest, path in _configs(options, Path(folder)):
            config = run_config.load(path, options.overrides)
            found = measure(config, counts, options.steps, options.rounds, options.scaling)
            rows += [{**row, "longest": longest} for row in found]
    Console(width=None if sys.stdout.isatty() else 160).print(table(rows))
    device = torch.device("cpu" if config.training.device == "auto" else config.training.device)
    write_result(options.json, {"benchmark": "scaling", **facts(device), "cases": rows})


def table(rows: list[dict[str, Any]]) -> Table:
    """For the terminal."""
    shown = Table(box=None, header_style="bold")
    names = ["longest", "ranks", "batch a rank", "samples/s", "turns", "P50 ms", "P99 ms", "speed-up", "efficiency"]
    for name in [*names, "waiting for data"]:
        shown.add_column(name, justify="right")
    for row in rows:
        speedup, efficiency = ("" if row[key] is None else f"{row[key]:.2f}" for key in ("speedup", "efficiency"))
        shown.add_row(
            str(row["longest"] or ""), str(row["ranks"]), str(row["batch_size"]), f"{row['samples_per_second']:,.0f}",
            f"{row['slowest_turn']:,.0f} to {row['fastest_turn']:,.0f}", f"{row['p50_ms']:.0f}", f"{row['p99_ms']:.0f}",
            speedup, efficiency, f"{row['data_wait_share']:.1%}",
        )  # fmt: skip
    return shown


def _configs(options: argparse.Namespace, folder: Path) -> list[tuple[int | None, str]]:
    """(longest history where it was asked for, run config) of each case."""
    if options.lengths is None:
        known = str(KUAIRAND) if os.environ.get("KUAIRAND_PURE") else None
        return [(None, options.config or known or _synthetic(folder, 50_000, 50, 1024))]
    found = []
    for longest in options.lengths:
        batch = max(8, EVENTS // longest)  # two groups, half full on average
        found.append((longest, _synthetic(folder / str(longest), 64 * batch, longest, batch)))
    return found


def _synthetic(folder: Path, rows: int, longest: int, batch: int) -> str:
    folder.mkdir(exist_ok=True)
    out = folder / "data"
    out.mkdir()
    options = {**synthetic.DEFAULTS, "rows": rows, "max_length": str(longest)}
    synthetic.write(out, synthetic.Shape.of(options))
    config = out / "config.yaml"
    sized = run_config.load(str(config), [f"data.batch_size={batch}"])
    config.write_text(run_config.to_yaml(sized), encoding="utf-8")
    return str(config)


if __name__ == "__main__":
    main()
