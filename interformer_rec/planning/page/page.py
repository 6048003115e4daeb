"""A plan as a page. In: a plan's dict (what --json prints) and the rows of a sweep; out: one HTML file, readable offline.

The numbers go into the page as one JSON block and are drawn by plan*.js: bars and lists as elements, ranks and shards on canvases,
because a thousand tables on a thousand ranks would be a million elements.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from interformer_rec.distributed.lookup.communication import Exchange
from interformer_rec.errors import InputError
from interformer_rec.files import finite
from interformer_rec.html import environment as html
from interformer_rec.planning.clock import Clock, nothing_shorter
from interformer_rec.planning.cost.evaluation_memory import evaluation_sentence
from interformer_rec.planning.cost.sizes import by_source
from interformer_rec.planning.cost.traffic import Traffic
from interformer_rec.storage import write_file

HERE = Path(__file__).parent
ITEM_BYTES = {"float32": 4, "float16": 2}
SCRIPTS = (
    "plan_parts.js",
    "plan_sweep.js",
    "plan_tables.js",
    "plan_hosts.js",
    "plan.js",
)
SMALLEST_ITEM = 2**16  # bytes; items of memory below it on every rank are left out, as on the screen


def write_page(plan: Mapping[str, Any], path: str | Path, sweep: Sequence[Mapping[str, Any]] | None = None) -> None:
    """Write the page to a path or URI, whole or not at all. `plan`: as plan_file.to_dict makes it; `sweep`: what_if.Outcome as dicts.

    The same plan gives the same bytes. Raises InputError where `plan` lacks what a page shows, or `path` cannot be written.
    """
    write_file(str(path), render(plan, sweep))


def write_refusal(title: str, why: str, path: str | Path, sweep: Sequence[Mapping[str, Any]]) -> None:
    """The page of a job without a plan: `why` there is none, as DoesNotFit says it, and what was planned instead (`sweep`)."""
    data = {"title": title, "why": why, "sweep": list(sweep)}
    write_file(str(path), _html(finite(data), ("plan_parts.js", "plan_sweep.js")))


def render(plan: Mapping[str, Any], sweep: Sequence[Mapping[str, Any]] | None = None) -> str:
    """The page's HTML. Raises InputError where `plan` lacks what a page shows."""
    return _html(page_data(plan, sweep), SCRIPTS)


def _html(data: Mapping[str, Any], scripts: Sequence[str]) -> str:
    """`data` with `why`: a page without a plan."""
    values = {
        "title": data["title"],
        "why": data.get("why"),
        "script": html.script(HERE, *scripts),
        "data": html.json_block(data),
    }
    return html.render(HERE, "plan.html.j2", values)


def page_data(plan: Mapping[str, Any], sweep: Sequence[Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """What the scripts draw: bytes, milliseconds, one list per table (see _table). Raises InputError where a key lacks."""
    try:
        return finite(_data(plan, list(sweep or [])))
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise InputError(
            f"no page can be made of this plan: {type(error).__name__} at {error}. It takes what `interformer plan --json` "
            "prints or --out writes, of this version"
        ) from None


def _data(plan: Mapping[str, Any], sweep: list[Mapping[str, Any]]) -> dict[str, Any]:
    job, step, memory = plan["fingerprint"], plan["step"], plan["memory"]
    ranks = job["ranks"]
    now, sent = Clock.read(step), Traffic.read(plan["sent"], job["ranks_per_node"])
    known = {*asdict(now), "bottleneck_rank"}
    items = {name: ms for name, ms in step.items() if isinstance(ms, (int, float)) and name not in known}
    peak = memory["peak"]
    if not len(peak) == len(step["lookup_by_rank"]) == len(step["update_by_rank"]) == ranks:
        raise ValueError(f"memory.peak, which has {len(peak)} ranks and not {ranks}")
    return {
        "title": " · ".join(filter(None, [plan.get("name"), f"{plan['nodes']} × {plan['cluster']}"])),
        "ranks": ranks,
        "local": job["ranks_per_node"],
        "device": job["device"],
        "cluster": plan["cluster"],
        "nodes": plan["nodes"],
        "batch": plan["batch_size"],
        "total_ms": now.total,
        "clock": now.texts,
        "how_sure": now.how_sure,
        "step": items,
        "lookup": [round(ms, 5) for ms in step["lookup_by_rank"]],
        "update": [round(ms, 5) for ms in step["update_by_rank"]],
        "exchange": [round(ms, 5) for ms in step["exchange_by_rank"]],
        "table_time": [round(ms, 5) for ms in step["tables_by_rank"]],
        "help": step["what_would_help"],
        "choice": [
            f"the exchange is {Exchange(plan['sharding']['deduplicate'], plan['sharding']['communication']).text}",
            *plan["exchanges"]["why"],
        ],
        "search": {
            "tables_ms": plan["search"]["tables_ms"],
            "proof": nothing_shorter(now.total, plan["search"]["step_bound_ms"]),
        },
        "hosts": {
            "sent": {name: values.round().tolist() for name, values in sent.hosts.items()},
            "pairs": [values.round(1).tolist() for values in sent.between_hosts],
        },
        "capacity": memory["capacity"],
        "usable": memory["usable"],
        "moment": memory["moment"],
        "evaluation": evaluation_sentence(memory["evaluation_peak"], memory["usable"], memory["evaluation_rows"])
        if memory["evaluation_peak"]
        else "",
        "peak": [round(count) for count in peak],
        "memory": _memory(memory),
        "host": [round(count) for count in memory["host"]] if max(memory["host"]) > 0 else None,
        "tables": [_table(name, table, job["tables"][name]) for name, table in plan["tables"].items()],
        "sources": by_source(plan["sources"]),
        "assumptions": plan["assumptions"],
        "origin": plan["assumptions_from"],
        "sweep": sweep,
    }


def _memory(memory: Mapping[str, Any]) -> dict[str, int | list[int]]:
    """Items alive at the moment of the fullest rank's peak; one number where all ranks hold the same, else one a rank."""
    items = {**memory["always"], **memory[memory["moment"]]}
    shown = {name: [round(count) for count in counts] for name, counts in items.items() if max(counts) >= SMALLEST_ITEM}
    return {name: counts[0] if len(set(counts)) == 1 else counts for name, counts in shown.items()}


def _table(name: str, table: Mapping[str, Any], shape: Mapping[str, Any]) -> list[Any]:
    """[name, rows, dim, bytes of a number, ids a row, sharding, kernel, device bytes, host bytes, ms, shards, rejected, kept on].

    shards: [first rank, last rank, rows, columns] for neighbouring ranks with shards of one size: a row-wise table of a thousand
    ranks is two entries. rejected: [sharding, kernel, reason].
    """
    runs: list[list[int]] = []
    for rank, rows, columns in sorted((s[0], s[3], s[4]) for s in table["shards"] if s[3] * s[4]):
        if runs and runs[-1][1:] == [rank - 1, rows, columns]:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank, rows, columns])
    rejected = [[r["sharding"], r["kernel"], r["reason"]] for r in table["rejected"]]
    return [
        name, shape["rows"], shape["dim"], ITEM_BYTES[shape["dtype"]], table["ids_per_row"], table["sharding"], table["kernel"],
        table["device_bytes"], table["host_bytes"], round(table["ms"], 6), runs, rejected,
        table.get("kept_on", ""),
    ]  # fmt: skip
