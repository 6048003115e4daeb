"""`interformer plan` from the shell to the page. In: numbers of tables and nodes; out: seconds of the command and of drawing its page.

    python -m benchmarks.planner.whole [--tables 1000] [--nodes 32] [--json PATH]

CPU seconds are user and system time of the process and its children, the start of Python and torch among them; the clock's stand beside
them. The page is drawn by Chromium (its start counts, too) where there is a program of that name. Tables are those of the case
"1,000 x 256", hashed, and the model is a DLRM on 13 dense features.
"""

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.harness.result_file import write_result
from benchmarks.planner.cases import CASES

CLUSTER = "dgx-h100"
CHROMIUM = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]


def write_config(folder: Path, count: int) -> tuple[Path, list[str]]:
    """A run config with so many tables, and the arguments that give the lengths of its bags."""
    drawn = CASES["1,000 x 256"].tables(random.Random(0))
    tables = {f"t{i}": drawn[i % len(drawn)] for i in range(count)}
    tree = {
        "name": "whole",
        "data": {"batch_size": CASES["1,000 x 256"].batch},
        "features": {
            "tables": {
                name: {"ids": "hash", "num_embeddings": t.rows, "embedding_dim": t.dim} for name, t in tables.items()
            },
            "labels": ["label"],
            "dense": [f"d{i}" for i in range(13)],
            "ids": [name for name, t in tables.items() if t.lengths == (1.0,)],
            "bags": [name for name, t in tables.items() if t.lengths != (1.0,)],
        },
        "model": {"kind": "dlrm", "embedding_dim": 64, "bottom": [256, 64], "hidden": [512, 256]},
    }
    path = folder / "whole.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    lengths = [f"{name}={t.lengths[0]:g}" for name, t in tables.items() if t.lengths != (1.0,)]
    return path, [word for length in lengths for word in ("--lengths", length)]


def timed(command: Sequence[str]) -> tuple[dict[str, float], str]:
    """Seconds of a command, CPU and clock, and what it printed. Raises CalledProcessError where it fails."""
    before, clock = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    # what a browser without a desktop has to say is no result
    errors = None if command[0] == sys.executable else subprocess.DEVNULL
    printed = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=errors, text=True, encoding="utf-8"
    ).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_seconds": cpu, "seconds": time.perf_counter() - clock}, printed


def measure(count: int, nodes: int) -> dict[str, Any]:
    """The command, then the page."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        config, lengths = write_config(folder, count)
        page, out = folder / "plan.html", folder / "plan.json"
        command = [sys.executable, "-m", "interformer_rec.cli", "plan", str(config), "--cluster", CLUSTER]
        command += ["--nodes", str(nodes), *lengths, "--out", str(out), "--html", str(page)]
        plan, _ = timed(command)
        made = json.loads(out.read_text(encoding="utf-8"))
        search, step = made["search"], made["step"]["total"]
        row: dict[str, Any] = {
            "tables": count,
            "ranks": made["fingerprint"]["ranks"],
            "plan": plan,
            "search_seconds": search["seconds"],
            "step_ms": step,
            "step_bound_ms": search["step_bound_ms"],
            "gap": step / search["step_bound_ms"] - 1,
            "page_bytes": page.stat().st_size,
        }
        browser = shutil.which("chromium")
        if browser is not None:
            drawn, dom = timed([browser, *CHROMIUM, f"--user-data-dir={folder / 'profile'}", page.as_uri()])
            (ms,) = {part.partition('"')[0] for part in dom.split('data-draw-ms="')[1:]}
            row["page"] = drawn | {"draw_seconds": float(ms) / 1000}
    return row


def main() -> None:
    """Parse, measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=32, help="of 8 GPUs")
    parser.add_argument("--json", help="write the result here")
    options = parser.parse_args()
    row = measure(options.tables, options.nodes) | {"load": os.getloadavg()[0]}
    for name, value in row.items():
        print(f"{name:16} {value}")
    write_result(options.json, {"command": "python -m benchmarks.planner.whole", "cluster": CLUSTER, "cases": [row]})


if __name__ == "__main__":
    main()
