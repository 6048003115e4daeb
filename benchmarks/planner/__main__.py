"""Our planner and TorchRec's on the same models and clusters, with two objectives. No data, no GPU, tables on meta.

    python -m benchmarks.planner [--case NAME ...] [--upstream-seconds 10] [--json PATH]

Both planners get the same options, memory estimates and topology (objectives.py), once with TorchRec's estimator as the objective
(perf) and once with the step that `interformer plan` prints (step). Each of the four plans is scored by both; ratio is theirs over
ours. Each planner runs in a process of its own. CPU seconds are those of the search; those of the options, which are enumerated once
for all four, stand beside them. TorchRec's planner stops after --upstream-seconds of CPU time with the best that it has found (cut:
it had more to propose), and is ended where a single proposal takes much longer. gap is how far our plan is above its proven bound.
"""

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

from torchrec.distributed.planner.types import PlannerError, ShardingOption

from benchmarks.harness.result_file import write_result
from benchmarks.planner import upstream
from benchmarks.planner.cases import CASES
from benchmarks.planner.objectives import OBJECTIVES, RESERVED, Question, question
from interformer_rec.planning.answer import least_ms
from interformer_rec.planning.search.errors import NoPlan
from interformer_rec.planning.search.search import Solution, search
from interformer_rec.planning.sharding_groups import that_fit, with_fewer_groups

PATIENCE = 3  # times --upstream-seconds, after which the process is ended
PLANNERS = ("ours", "upstream")


def ours(asked: Question, objective: str) -> tuple[Solution, float]:
    """Our plan, and the least that any plan of these options has of the objective, ms (of the step: what depends on the plan)."""
    space = asked.space[objective]
    if objective == "perf":
        found = search(space, asked.room)
        return found, found.bound
    first = search(space, asked.room)
    found = with_fewer_groups(
        asked.problem, space, asked.room, first, lambda rest, refine: search(rest, asked.room, refine=refine)
    )
    return found, least_ms(asked.problem, that_fit(space, asked.room), first.bound)


def run(asked: Question, planner: str, objective: str, limit: float, answer: Any) -> None:
    """In a child: plan, score, send one row; the kernel ends upstream's where one proposal takes too long."""
    if planner == "upstream":
        most = int(PATIENCE * limit + time.process_time())
        resource.setrlimit(resource.RLIMIT_CPU, (most, most + 1))
    options: list[ShardingOption] = []
    before, cpu = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    row: dict[str, Any] = {"feasible": True}
    try:
        if planner == "ours":
            found, bound = ours(asked, objective)
            options = found.options
        else:
            theirs = upstream.plan(asked, objective, limit)
            options = theirs.options
            row |= {"proposals": theirs.proposals, "cut": theirs.cut}
    except (NoPlan, PlannerError) as error:
        row |= {"feasible": False, "error": str(error)[:300]}
    row["cpu_seconds"] = time.process_time() - cpu
    row["peak_mib"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    if row["feasible"]:
        # plan_ms: what of the objective depends on the plan
        row |= asked.score(options)
        row["plan_ms"] = asked.searched_ms(options) if objective == "step" else row["perf"]
        if planner == "ours":
            row["bound"] = bound if objective == "perf" else row["step"] - row["plan_ms"] + bound
            row["gap"] = max(0.0, row[objective] / row["bound"] - 1)
        row["types"] = dict(Counter(f"{o.sharding_type} {o.compute_kernel}" for o in options))
    answer.send(row)


def timed(asked: Question, planner: str, objective: str, limit: float) -> dict[str, Any]:
    """One row, or the limit that it did not keep."""
    context = multiprocessing.get_context("fork")  # the options are made once
    receive, answer = context.Pipe(duplex=False)
    child = context.Process(target=run, args=(asked, planner, objective, limit, answer))
    child.start()
    answer.close()
    try:
        row = receive.recv()
    except EOFError:  # killed
        row = {"feasible": None, "over_cpu_seconds": PATIENCE * limit}
    child.join()
    return row


def measure(name: str, limit: float) -> dict[str, Any]:
    """A case: two planners, two objectives; without a limit ours alone."""
    cpu = time.process_time()
    asked = question(CASES[name])
    row: dict[str, Any] = {"options_cpu_seconds": time.process_time() - cpu}
    for objective in OBJECTIVES:
        rows = {planner: timed(asked, planner, objective, limit) for planner in PLANNERS if planner == "ours" or limit}
        row[objective] = rows
        if rows.get("upstream", {}).get(objective) and rows["ours"].get(objective):
            row[f"{objective}_ratio"] = rows["upstream"][objective] / rows["ours"][objective]
    return row


HEAD = "".join(f" | {o:>9} {'gap':>6} {'CPU s':>6} {'theirs':>9} {'CPU s':>6} {'ratio':>7}" for o in OBJECTIVES)


def _line(name: str, row: dict[str, Any]) -> str:
    line = f"{name:24}{row['options_cpu_seconds']:>8.1f}"
    for objective in OBJECTIVES:
        mine, theirs = row[objective]["ours"], row[objective].get("upstream", {})
        cells = [(mine.get(objective), 9, ".4g"), (mine.get("gap"), 6, ".1%"), (mine["cpu_seconds"], 6, ".1f")]
        cells += [(theirs.get(objective), 9, ".4g"), (theirs.get("cpu_seconds"), 6, ".1f")]
        cells += [(row.get(f"{objective}_ratio"), 7, ".3f")]
        shown = [format("-" if value is None else format(value, form), f">{width}") for value, width, form in cells]
        line += " | " + " ".join(shown) + (" cut" if theirs.get("cut") else "")
    return line


def main() -> None:
    """Parse, measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--case", action="append", choices=list(CASES), help="only this one; may be given several times"
    )
    parser.add_argument(
        "--upstream-seconds",
        type=float,
        default=10.0,
        help="CPU seconds of TorchRec's planner an objective; 0: ours alone",
    )
    parser.add_argument("--json", help="write the result here; cases of an earlier run that are not run again stay")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    print(f"{'case':24}{'options':>8}{HEAD}")
    path = Path(options.json) if options.json else None
    result = json.loads(path.read_text(encoding="utf-8")) if path is not None and path.exists() else {}
    result |= {"command": "python -m benchmarks.planner", "reserved": RESERVED, "cases": result.get("cases", {})}
    names = options.case or list(CASES)
    for name in names:
        row = measure(name, options.upstream_seconds) | {"upstream_seconds": options.upstream_seconds}
        result["cases"][name] = row
        print(_line(name, row), flush=True)
        write_result(options.json, result, done=name == names[-1])


if __name__ == "__main__":
    main()
