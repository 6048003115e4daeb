"""What differs between two plans. In: plan files or run folders; out: before and after, of the job, the model, tables, the step, memory.

A run folder stands for the plan that the run had, with the step and the peak that it measured.
"""

from typing import Any

from interformer_rec.planning.plan_file import PlanFile, TablePrint, read_plan
from interformer_rec.planning.score.measured_file import read_run
from interformer_rec.planning.score.score import STEP, typical_steps
from interformer_rec.planning.table_plan import TablePlan
from interformer_rec.storage import Storage
from interformer_rec.text import ranges

MEASURED = "measured"  # in place of a range, of a run


def diff(first: str, second: str) -> dict[str, Any]:
    """Before and after of what differs. `model`: tables that only one has, or in another shape; `tables`: those that lie elsewhere.

    `unrelated`: no table of the one has name and shape of one of the other, so nothing is compared but job, step and memory.
    Raises InputError.
    """
    a, b = _plan(first), _plan(second)
    job = {
        **_pairs({"model": a.name}, {"model": b.name}),
        **_pairs(*({field: getattr(p, field) for field in ("cluster", "nodes", "batch_size")} for p in (a, b))),
        **_pairs(*(p.sharding.model_dump() for p in (a, b))),
        **_pairs(*({"ranks": p.fingerprint.ranks, "device": p.fingerprint.device} for p in (a, b))),
    }
    shapes = [{name: _shape(table) for name, table in p.fingerprint.tables.items()} for p in (a, b)]
    unrelated = not shapes[0].items() & shapes[1].items()
    both = sorted(shapes[0].keys() & shapes[1].keys())
    model = {} if unrelated else _pairs(*shapes)
    places = [{name: _where(p.tables[name]) for name in both if name in p.tables} for p in (a, b)]
    return {
        "unrelated": unrelated,
        "job": job,
        "model": model,
        "tables": {} if unrelated else _pairs(*places),
        "step": _numbers(a.step, b.step),
        "memory": _pairs(*({"fullest rank": max(p.memory["peak"])} if p.memory.get("peak") else {} for p in (a, b))),
    }


def _plan(path: str) -> PlanFile:
    """Of a plan file, or of a run with what it measured."""
    folder = Storage.open(path)
    if folder.local is not None and not folder.local.is_dir():
        return read_plan(path)
    if folder.size("plan.json") is None:
        return read_plan(path)
    plan = read_plan(folder.folder("plan.json").location)
    if folder.size("measured.json") is None:
        return plan
    run = read_run(path)
    steps = typical_steps(run)
    peaks = [rank.memory.peak for rank in run.measured.by_rank]
    step = {} if steps is None else {"total": float(steps[STEP].mean()), "how_sure": MEASURED}
    memory = {} if None in peaks else {"peak": peaks}
    return plan.model_copy(update={"step": step, "memory": memory})


def _pairs(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs, by name; - where one lacks it."""
    names = dict.fromkeys((*a, *b))
    return {name: (a.get(name, "-"), b.get(name, "-")) for name in names if a.get(name, "-") != b.get(name, "-")}


def _numbers(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Items of a step that both have, and what they are known from."""
    known = [{k: v for k, v in step.items() if isinstance(v, (int, float)) or k == "how_sure"} for step in (a, b)]
    return _pairs(*({k: step[k] for k in known[0] if k in known[1]} for step in known))


def _shape(table: TablePrint) -> str:
    return f"{table.rows:,} x {table.dim} {table.dtype}, {'pooled' if table.pooled else 'history'}"


def _where(table: TablePlan) -> str:
    return f"{table.sharding}/{table.kernel} on {ranges({shard[0] for shard in table.shards})}"
