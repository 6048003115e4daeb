"""Rows a second from Parquet to Batch, against the limit: pyarrow decoding the same columns and doing nothing else.

    python -m benchmarks.data [--data PATH] [--json PATH] [--workers 1,2] [--batch-size 4096] [--repeats 7]

Same process, repeats interleaved, medians; ratios are of runs right after each other, in wall time and, for a machine that has
other work, in CPU time: of one worker and the limit of one thread (Arrow's pool has one, too). The data: KuaiRand-Pure's
train.parquet (--data, or the environment variable KUAIRAND_PURE: the file or its folder), else a synthetic file with the same kinds of
columns.
"""

import argparse
import functools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.harness.result_file import write_result
from interformer_rec.config.data import DataConfig
from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.files.source import Source, open_source
from interformer_rec.data.fit import fit
from interformer_rec.data.loader import Loader

GROUPS = {"watch": 100, "long_watch": 100, "like": 100}  # name -> max_length
PARTS = {"video_id": "video_id", "author_id": "author_id", "tag": "tag"}  # a group's columns -> tables
LABEL, LEFT_OUT = "is_click", ("is_like", "long_view", "time_ms")
TARGET = 0.6  # of the limit, one thread


def schema_of(columns: pa.Schema) -> FeatureSchema:
    """Every column of a KuaiRand-like file as a feature: floats dense, other scalars ids, lists of a group events, `tags` a bag."""
    scalars = [c for c in columns if not pa.types.is_list(c.type) and c.name not in (LABEL, *LEFT_OUT)]
    dense = [c.name for c in scalars if pa.types.is_floating(c.type)]
    ids = [c.name for c in scalars if not pa.types.is_floating(c.type)]
    return FeatureSchema.model_validate(
        {
            "tables": {name: {} for name in dict.fromkeys([*ids, *PARTS.values()])},
            "dense": [{"name": name, "fill": 0.0, "log1p": True, "standardise": True} for name in dense],
            "ids": ids,
            "bags": [{"name": "tags", "table": "tag"}],
            "sequences": [
                {
                    "name": group,
                    "max_length": length,
                    "columns": [{"name": p, "column": f"{group}_{p}", "table": table} for p, table in PARTS.items()],
                }
                for group, length in GROUPS.items()
            ],
            "labels": [LABEL],
        }
    )


def write_synthetic(path: Path, rows: int = 100_000) -> None:
    """A file with KuaiRand-Pure's kinds of columns: integer and string ids, floats, a bag, three groups of aligned lists."""
    rng = np.random.default_rng(0)

    def event_lists(mean: int, top: int) -> tuple[np.ndarray, Callable[[int], pa.Array]]:
        lengths = np.minimum(rng.poisson(mean, rows), top)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        return offsets, lambda ids: pa.ListArray.from_arrays(offsets, rng.integers(1, ids, offsets[-1], dtype=np.int32))

    columns: dict[str, Any] = {LABEL: rng.integers(0, 2, rows, dtype=np.int8)}
    columns |= {"user_id": rng.integers(0, 20_000, rows), "video_id": rng.integers(1, 6000, rows)}
    columns |= {"author_id": rng.integers(1, 5000, rows)}
    columns |= {f"field_{i}": rng.integers(0, 50, rows, dtype=np.int32) for i in range(20)}
    columns |= {
        f"text_{i}": pa.array([f"value {v}" for v in range(10)]).take(rng.integers(0, 10, rows)) for i in range(8)
    }
    columns |= {f"number_{i}": rng.exponential(10, rows).astype(np.float32) for i in range(8)}
    columns["tags"] = event_lists(1, 3)[1](46)
    for group, mean in zip(GROUPS, (43, 21, 1), strict=True):
        make = event_lists(mean, 100)[1]
        columns |= {f"{group}_{part}": make(ids) for part, ids in zip(PARTS, (7500, 6500, 44), strict=True)}
    pq.write_table(pa.table(columns), path, compression="zstd", row_group_size=12_288)


def decode_only(source: Source, columns: tuple[str, ...], threads: int, epoch: int) -> None:
    """The limit: every row group decoded to Arrow, the results dropped."""
    groups = range(len(source.group_rows))
    if threads == 1:
        for group in groups:
            source.read([group], columns)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda group: source.read([group], columns).num_rows, groups):
            pass


def load(loader: Loader, epoch: int) -> None:
    """Every batch made, none kept."""
    rows = 0
    for batch, _ in loader.batches(epoch):
        rows += batch.rows
    assert rows == loader.rows


def measure(path: str, workers: list[int], batch_size: int, repeats: int, shuffle_rows: int) -> dict[str, Any]:
    """Median rows/s of the limit and of the loader, for one thread and for each number of workers."""
    source = open_source(path)
    features = schema_of(source.schemas[0])
    columns = features.columns()
    began = time.perf_counter()
    fitted = fit(features, source)
    seconds_to_fit = time.perf_counter() - began

    def loader(threads: int, shuffle: int) -> Loader:
        options = DataConfig(
            batch_size=batch_size, shuffle_rows=shuffle, balance="none", workers=threads, prefetch=max(2, threads)
        )
        return Loader(source, features, fitted, options, seed=0)

    runs: dict[str, Callable[[int], None]] = {
        "limit, 1 thread": functools.partial(decode_only, source, columns, 1),
        "loader, workers 1": functools.partial(load, loader(1, shuffle_rows)),
        "loader, workers 1, file order": functools.partial(load, loader(1, 0)),
    }
    for count in workers:
        runs[f"limit, {count} threads beside the consumer"] = functools.partial(decode_only, source, columns, count)
        runs[f"loader, workers {count}"] = functools.partial(load, loader(count, shuffle_rows))
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    cpu_seconds: dict[str, list[float]] = {name: [] for name in runs}
    for epoch in range(repeats + 1):  # the first round warms up
        for name, run in runs.items():
            began, cpu_began = time.perf_counter(), time.process_time()
            run(epoch)
            if epoch:
                seconds[name].append(time.perf_counter() - began)
                cpu_seconds[name].append(time.process_time() - cpu_began)
    rates = {name: source.rows / statistics.median(times) for name, times in seconds.items()}
    return {
        "data": "/".join(Path(path).parts[-2:]),
        "rows": source.rows,
        "columns": len(columns),
        "batch_size": batch_size,
        "shuffle_rows": shuffle_rows,
        "repeats": repeats,
        "fit_seconds": seconds_to_fit,
        "rows_per_second": rates,
        "ratio_one_worker": _ratios(seconds),
        "ratio_one_worker_cpu": _ratios(cpu_seconds),
        "target": TARGET,
    }


def _ratios(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Limit over loader, of runs right after each other."""
    pairs = zip(seconds["limit, 1 thread"], seconds["loader, workers 1"], strict=True)
    ratios = [limit / ours for limit, ours in pairs]
    return {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}


def main() -> None:
    """Parse, measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", default=os.environ.get("KUAIRAND_PURE"), help="a KuaiRand-Pure train.parquet or its folder"
    )
    parser.add_argument("--json", help="write the result here")
    parser.add_argument("--workers", default="1,2", help="numbers of worker threads, with commas")
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--shuffle-rows", type=int, default=65536)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    pa.set_cpu_count(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = options.data
        if path is None:
            path = str(Path(folder) / "synthetic.parquet")
            write_synthetic(Path(path))
        elif os.path.isdir(path):
            path = os.path.join(path, "train.parquet")
        counts = [int(count) for count in options.workers.split(",") if count]
        result = measure(path, counts, options.batch_size, options.repeats, options.shuffle_rows)
    limit = result["rows_per_second"]["limit, 1 thread"]
    print(f"{result['rows']} rows, {result['columns']} columns, batches of {result['batch_size']}")
    for name, rate in result["rows_per_second"].items():
        print(f"{name:45} {rate:12,.0f} rows/s {rate / limit:6.2f} of the one-thread limit")
    print(f"fit: {result['fit_seconds']:.2f} s, once")
    for what, key in (("wall", "ratio_one_worker"), ("CPU", "ratio_one_worker_cpu")):
        ratio = result[key]
        print(
            f"ratio, one worker, {what} time: {ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['most']:.2f}), target {TARGET}"
        )
    write_result(options.json, result)


if __name__ == "__main__":
    main()
