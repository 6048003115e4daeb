"""What growing tables cost: the start of a window (ids counted, rows given and reset) against the training of that window.

    python -m benchmarks.growth [--rows 60000] [--windows 4] [--events 20] [--capacity 200000] [--json PATH]

Synthetic windows: items (integers far apart) and their makers (strings) are drawn by Zipf's law, a fifth of each window's items is new;
a history reads the table of the items. The model is InterFormer with its defaults. Times are those that the run itself logs
(metrics.jsonl): of the admission, and of the steps of the same window, in one process under the same load. Then, without a model, one
window alone: how long it takes to count, to decide, and to build the lookup of the ids.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml

from benchmarks.harness.result_file import write_result
from interformer_rec.config import run as config
from interformer_rec.config.run import RunConfig
from interformer_rec.data.decode.decoder import row_maps
from interformer_rec.data.files.source import open_source
from interformer_rec.data.fit import fit
from interformer_rec.data.growth.admission import admit, count_window
from interformer_rec.training import run

NEW = 0.2  # of a window's items
BATCH = 1024


def write_windows(folder: Path, options: argparse.Namespace) -> None:
    """A folder each."""
    items = options.rows // 2
    for window in range(options.windows):
        random = np.random.default_rng(window)
        first = int(window * NEW * items)

        def drawn(count: int, random: np.random.Generator = random, first: int = first) -> np.ndarray:
            return (first + random.zipf(1.2, count) % items) * 0x9E3779B97F4A7C1 % 2**61

        lengths = np.minimum(random.poisson(options.events, options.rows), 2 * options.events)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        item = drawn(options.rows)
        table = pa.table(
            {
                "item": item,
                "maker": pa.array([f"maker {one % (items // 10)}" for one in item.tolist()]),
                "user": random.integers(0, 10**6, options.rows),
                "past": pa.ListArray.from_arrays(offsets, pa.array(drawn(int(offsets[-1])))),
                "click": random.integers(0, 2, options.rows, dtype=np.int8),
            }
        )
        place = folder / f"hr={window:02}"
        place.mkdir(parents=True)
        pq.write_table(table, place / "part-0.parquet", row_group_size=20_000, compression="zstd")


def settings(folder: Path, out: Path, options: argparse.Namespace) -> RunConfig:
    """InterFormer with its defaults; two growing tables."""
    tree = {
        "name": "growth",
        "data": {"windows": {"path": str(folder)}, "batch_size": BATCH},
        "features": {
            "tables": {
                "item": {"ids": "vocab", "grow": {"rows": options.capacity, "keep": 2}},
                "maker": {"ids": "vocab", "grow": {"rows": options.capacity // 10, "min_count": 2, "keep": 2}},
                "user": {"ids": "hash", "num_embeddings": 100_000},
            },
            "ids": ["item", "maker", "user"],
            "sequences": [{"name": "past", "max_length": 100, "columns": [{"name": "item", "column": "past"}]}],
            "labels": ["click"],
        },
        "training": {"device": "cpu", "out": str(out)},
    }
    return config.parse_yaml(yaml.safe_dump(tree), "benchmarks.growth", [])


def of_run(out: Path) -> list[dict[str, Any]]:
    """A case a window, from what the run has logged."""
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    cases = []
    for window, growth in enumerate(one for one in records if one["split"] == "growth"):
        steps = [one for one in records if one["split"] == "train" and one["epoch"] == window]
        seconds = sum(one["seconds"] for one in steps)
        cases.append(
            {
                "window": window,
                "rows": sum(one["rows"] for one in steps),
                "training_seconds": seconds,
                "admission_seconds": growth["seconds"],
                "count_seconds": growth["count_seconds"],
                "admission_share": growth["seconds"] / seconds,
                **{name: value for name, value in growth.items() if "/" in name},
            }
        )
    return cases


def alone(config_: RunConfig, folder: Path) -> dict[str, Any]:
    """CPU seconds of the parts, of the last window after the one before it."""
    files = sorted(folder.glob("*/*.parquet"))[-2:]
    fitted = fit(config_.features, str(files[0]))
    began = time.process_time()
    counted = count_window(config_.features, open_source(str(files[1])))
    after_count = time.process_time()
    grown, _ = admit(config_.features, fitted, counted)
    after_choice = time.process_time()
    row_maps(config_.features, grown)
    done = time.process_time()
    return {"count": after_count - began, "choose": after_choice - after_count, "lookup": done - after_choice}


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000, help="of a window")
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--events", type=int, default=20, help="mean length of a history")
    parser.add_argument("--capacity", type=int, default=200_000, help="grow.rows of the items' table")
    parser.add_argument("--json", help="where the result goes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, out = Path(temporary) / "windows", Path(temporary) / "run"
        write_windows(folder, options)
        chosen = settings(folder, out, options)
        run.train(chosen)
        cases, parts = of_run(out), alone(chosen, folder)
    for case in cases:
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v:,}" for k, v in case.items()))
    print("CPU seconds of one window alone:", "  ".join(f"{name} {value:.3f}" for name, value in parts.items()))
    facts = {name: value for name, value in vars(options).items() if name != "json"}
    threads = torch.get_num_threads()
    write_result(options.json, {"options": facts, "threads": threads, "cpu_seconds_alone": parts, "cases": cases})


if __name__ == "__main__":
    main()
