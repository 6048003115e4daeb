"""Our planner and TorchRec's on the same models and clusters, by TorchRec's own estimates. No data, no GPU, tables on meta.

    python -m benchmarks.planner [--case NAME ...] [--upstream-seconds 60] [--json PATH]

Each planner runs in a process of its own: seconds and CPU seconds from the model to the plan (enumeration, search, ranks),
and the memory it needed beyond what Python and torch had loaded. perf is the slowest rank's milliseconds (NoopPerfModel),
gap how far ours is above its proven lower bound, ratio upstream's perf over ours. Both get the same topology, constraints
and reservation (15% of the memory); upstream has its default proposers and partitioner. Its limit is in CPU seconds, so that
other work on the machine does not count against it.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import resource
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from torchrec.distributed.embedding import EmbeddingCollectionSharder
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner
from torchrec.distributed.planner.perf_models import NoopPerfModel
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import PlannerError

from benchmarks.harness.result_file import write_result
from benchmarks.planner_cases import CASES, build
from interformer_rec.planning.search.errors import NoPlan
from interformer_rec.planning.search.torchrec_planner import InterFormerPlanner

RESERVED = 0.15


def run(name: str, planner: str, limit: float, answer: Any) -> None:
    """In a child: plan the case, send one row; the kernel ends it after `limit` CPU seconds."""
    if limit:
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit) + 1))
    model, topology, constraints = build(CASES[name])
    sharders = [EmbeddingBagCollectionSharder(), EmbeddingCollectionSharder()]
    reservation, batch = FixedPercentageStorageReservation(RESERVED), CASES[name].batch
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    row: dict[str, Any] = {"feasible": True}
    try:
        if planner == "ours":
            ours = InterFormerPlanner(topology, batch, constraints, reservation)
            ours.plan(model, sharders)
            assert ours.solution is not None
            row |= {"bound": ours.solution.bound, "gap": ours.solution.gap}
            options = ours.solution.options
        else:
            theirs = EmbeddingShardingPlanner(
                topology, batch, constraints=constraints, storage_reservation=reservation, stats=[], debug=False
            )
            theirs.plan(model, sharders)
            options = theirs._best_plan or []
            row["proposals"] = theirs._num_proposals
        row["perf"] = NoopPerfModel(topology).rate(options)
        row["types"] = dict(Counter(f"{o.sharding_type} {o.compute_kernel}" for o in options))
    except (NoPlan, PlannerError) as error:
        row |= {"feasible": False, "error": str(error)[:300]}
    row |= {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    row["peak_mib"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    answer.send(row)


def timed(name: str, planner: str, limit: float = 0) -> dict[str, Any]:
    """One row, or the limit it did not keep."""
    context = multiprocessing.get_context("fork")  # torch is loaded once
    receive, answer = context.Pipe(duplex=False)
    child = context.Process(target=run, args=(name, planner, limit, answer))
    child.start()
    answer.close()
    try:
        row = receive.recv()
    except EOFError:  # killed
        row = {"feasible": None, "over_cpu_seconds": limit}
    child.join()
    return row


def _line(name: str, row: dict[str, Any]) -> str:
    def cell(planner: str, key: str, form: str) -> str:
        value = row[planner].get(key)
        return format(value, form) if value is not None else "-"

    ratio = f"{row['ratio']:.3f}" if row.get("ratio") else "-"
    ours = f"{cell('ours', 'seconds', '.2f'):>8} {cell('ours', 'cpu_seconds', '.2f'):>8} {cell('ours', 'peak_mib', '.0f'):>6}"
    theirs = f"{cell('upstream', 'seconds', '.1f'):>8} {cell('upstream', 'cpu_seconds', '.1f'):>8}"
    perfs = f"{cell('ours', 'perf', '.4f'):>10} {cell('ours', 'gap', '.2%'):>7} {cell('upstream', 'perf', '.4f'):>10} {ratio:>7}"
    words = {True: "yes", False: "none", None: "> limit"}
    return (
        f"{name:24}{ours} |{theirs} |{perfs}  {words[row['ours']['feasible']]} / {words[row['upstream']['feasible']]}"
    )


def main() -> None:
    """Parse, measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--case", action="append", choices=list(CASES), help="only this one; may be given several times"
    )
    parser.add_argument("--upstream-seconds", type=float, default=60.0, help="CPU limit for upstream; 0: left out")
    parser.add_argument("--json", help="write the result here; cases of an earlier run that are not run again stay")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    head = f"{'case':24}{'ours s':>8} {'CPU s':>8} {'MiB':>6} |{'theirs s':>8} {'CPU s':>8} |{'ours ms':>10} {'gap':>7}"
    print(f"{head} {'theirs ms':>10} {'ratio':>7}  plan")
    rows: dict[str, Any] = {}
    for name in options.case or CASES:
        row: dict[str, Any] = {"ours": timed(name, "ours"), "upstream": {"feasible": None}}
        if options.upstream_seconds > 0:
            row["upstream"] = timed(name, "upstream", options.upstream_seconds)
        if row["ours"].get("perf") and row["upstream"].get("perf"):
            row["ratio"] = row["upstream"]["perf"] / row["ours"]["perf"]
        rows[name] = row
        print(_line(name, row), flush=True)
    if options.json:
        path = Path(options.json)
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"cases": {}}
        kept |= {"command": "python -m benchmarks.planner", "reserved": RESERVED, "cases": kept["cases"] | rows}
        write_result(options.json, kept)


if __name__ == "__main__":
    main()
