"""Request rows against the same candidates as impressions: a whole training step from Parquet to optimizers, one rank, one thread.

    python -m benchmarks.requests [--candidates 1,8,64] [--lengths 100,1000] [--batch 512] [--rounds 9] [--device cpu|cuda]
        [--set a.b=c ...] [--json PATH]

Data are made up: KuaiRand's number of fields and histories, C candidates a request, histories of T events at most, 27% of that on
average. Both forms hold the same candidates in the same order and train the same model (model.split) on batches of as many candidates; the
losses must agree. A round is one step of each form, in turns. Times are CPU seconds of the process, loader threads included; with
--device cuda seconds until the GPU has ended the step.
"""

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.harness.interleaved import measure
from benchmarks.harness.machine import facts
from benchmarks.harness.result_file import write_result
from interformer_rec.config import run as run_config
from interformer_rec.config.run import RunConfig
from interformer_rec.data.fit import fit
from interformer_rec.distributed.environment import Environment, process_group
from interformer_rec.training.build import build_parallel, train_loader
from interformer_rec.training.pipeline import Pipeline

FILL = 0.27  # mean length of a history, of its longest
ITEMS, AUTHORS, TAGS, USERS = 7_000, 6_000, 46, 20_000
USER_FIELDS, ITEM_FIELDS = 24, 4
FORMS = ("requests", "impressions")
NEAR = {"fp32": 1e-4, "bf16": 2e-2}  # the losses of both forms, relatively


def write_data(folder: Path, candidates: int, longest: int, rows: int) -> dict[str, int]:
    """Both forms of `rows` candidates; bytes of each file."""
    random = np.random.default_rng(0)
    requests = -(-rows // candidates)
    lengths = np.clip(random.geometric(1 / (FILL * longest + 1), requests) - 1, 0, longest)
    offsets = pa.array(np.r_[0, np.cumsum(lengths)].astype(np.int32))
    once: dict[str, pa.Array] = {"user_id": pa.array(random.integers(0, USERS, requests))}
    once |= {f"user{i}": pa.array(random.integers(0, 20, requests)) for i in range(USER_FIELDS)}
    for name, ids in (("item", ITEMS), ("author", AUTHORS), ("tag", TAGS)):
        once[f"watch_{name}"] = pa.ListArray.from_arrays(offsets, pa.array(random.integers(0, ids, lengths.sum())))
    shown = {
        name: random.integers(0, ids, requests * candidates) for name, ids in (("item", ITEMS), ("author", AUTHORS))
    }
    shown |= {f"item{i}": random.integers(0, 50, requests * candidates) for i in range(ITEM_FIELDS)}
    shown["label"] = (random.random(requests * candidates) < 0.4).astype(np.int8)
    bounds = pa.array(np.arange(requests + 1, dtype=np.int32) * candidates)
    of = pa.array(np.repeat(np.arange(requests), candidates))
    tables = {
        "requests": once | {name: pa.ListArray.from_arrays(bounds, pa.array(values)) for name, values in shown.items()},
        "impressions": {name: values.take(of) for name, values in once.items()}
        | {name: pa.array(values) for name, values in shown.items()},
    }
    for form, columns in tables.items():
        size = 4096 // candidates + 1 if form == "requests" else 4096
        pq.write_table(pa.table(columns), folder / f"{form}.parquet", row_group_size=size, compression="zstd")
    return {form: (folder / f"{form}.parquet").stat().st_size for form in FORMS}


def config_of(folder: Path, form: str, longest: int, batch: int, options: argparse.Namespace) -> RunConfig:
    """A run of one form; the two differ in the rows alone."""
    shared = {
        name: {"ids": "identity", "num_embeddings": ids}
        for name, ids in (("item", ITEMS), ("author", AUTHORS), ("tag", TAGS))
    }
    others = {f"user{i}": {"ids": "identity", "num_embeddings": 20} for i in range(USER_FIELDS)}
    others |= {f"item{i}": {"ids": "identity", "num_embeddings": 50} for i in range(ITEM_FIELDS)}
    candidate = ["item", "author", *(f"item{i}" for i in range(ITEM_FIELDS))]
    events = [{"name": name, "column": f"watch_{name}", "table": name} for name in shared]
    tree = {
        "name": form,
        "data": {"train": str(folder / f"{form}.parquet"), "batch_size": batch, "shuffle_rows": 0},
        "features": {
            "tables": {"user_id": {"ids": "identity", "num_embeddings": USERS}, **shared, **others},
            "ids": ["user_id", *(f"user{i}" for i in range(USER_FIELDS)), *candidate],
            "sequences": [{"name": "watch", "max_length": longest, "columns": events}],
            **({"request": {"candidates": candidate}} if form == "requests" else {"candidate": candidate}),
            "labels": ["label"],
        },
        "model": {"embedding_dim": 16, "d": 32, "layers": 1, "heads": 2, "split": True},
        "training": {"device": options.device},
    }
    return run_config.parse_yaml(yaml.safe_dump(tree), form, options.set)


def case(env: Environment, candidates: int, longest: int, options: argparse.Namespace) -> dict[str, Any]:
    """Both forms in turns. Raises RuntimeError where their losses differ."""
    with tempfile.TemporaryDirectory() as name:
        folder, batch = Path(name), max(options.batch, candidates)
        sizes = write_data(folder, candidates, longest, 4 * batch)
        losses: dict[str, list[float]] = {form: [] for form in FORMS}
        steps: dict[str, Callable[[], object]] = {}
        for form in FORMS:
            config = config_of(folder, form, longest, batch, options)
            stream = training(config, env)
            steps[form] = lambda stream=stream, found=losses[form]: found.append(next(stream))
        clock = time.process_time if env.device.type == "cpu" else time.perf_counter
        times = measure(steps, rounds=options.rounds, device=env.device, clock=clock)
        unit = "cpu_ms" if env.device.type == "cpu" else "ms"
        for stream_losses in zip(*losses.values(), strict=True):
            if abs(stream_losses[0] - stream_losses[1]) > NEAR[config.training.precision] * abs(stream_losses[1]):
                raise RuntimeError(f"the forms' losses differ: {losses}")
    return {
        "candidates": candidates,
        "longest": longest,
        "batch": batch,
        **{f"{form}_{unit}": times[form].median * 1e3 for form in FORMS},
        "times_faster": times["requests"].ratio(times["impressions"]),
        "bytes_a_candidate": {form: size / (4 * batch) for form, size in sizes.items()},
        "repeats": options.rounds,
    }


def training(config: RunConfig, env: Environment) -> Iterator[float]:
    """The loss of one step after another."""
    assert config.data.train is not None
    fitted = fit(config.features, config.data.train)
    pipeline = Pipeline(build_parallel(config, env, fitted), env, config.training.precision, config.seed)
    loader = train_loader(config, env, fitted)
    forever = itertools.chain.from_iterable(map(loader.batches, itertools.count()))
    for step in pipeline.run(forever, train=True):
        yield step.loss.item()


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", default="1,8,64")
    parser.add_argument("--lengths", default="100,1000")
    parser.add_argument("--batch", type=int, default=512, help="candidates")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c")
    parser.add_argument("--json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    with process_group(options.device) as env:
        result = {"benchmark": "requests", **facts(env.device), "changes": options.set, "cases": rows}
        for longest, candidates in itertools.product(
            *(map(int, text.split(",")) for text in (options.lengths, options.candidates))
        ):
            rows.append(case(env, candidates, longest, options))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
            write_result(options.json, result, done=False)
    Console(width=None if sys.stdout.isatty() else 160).print(table(rows))
    write_result(options.json, result)


def table(rows: list[dict[str, Any]]) -> Table:
    """For the terminal."""
    shown = Table(box=None, header_style="bold")
    names = (
        "longest history",
        "candidates",
        "impressions, ms",
        "requests, ms",
        "times faster",
        "middle half",
        "bytes a candidate",
    )
    for name in names:
        shown.add_column(name, justify="right")
    for row in rows:
        ratio, sizes = row["times_faster"], row["bytes_a_candidate"]
        impressions, requests = (row.get(f"{form}_cpu_ms") or row[f"{form}_ms"] for form in ("impressions", "requests"))
        shown.add_row(
            str(row["longest"]), str(row["candidates"]), f"{impressions:,.0f}", f"{requests:,.0f}",
            f"{ratio['median']:.2f}", f"{ratio['p25']:.2f} to {ratio['p75']:.2f}",
            f"{sizes['impressions']:,.0f} to {sizes['requests']:,.0f}",
        )  # fmt: skip
    return shown


if __name__ == "__main__":
    main()
