"""A plan as a JSON file. In: a Placed, or a run; out: JSON that anything can read, a PlanFile read back, what differs between two.

`interformer plan --out` writes it, and `interformer train` as plan.json of the run folder, whoever made the plan: that one has no
estimates. docs/reference/plan.md says what each key means.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from torchrec.distributed.planner.types import ShardingOption

from interformer_rec import __version__
from interformer_rec.config.run import RunConfig
from interformer_rec.distributed.environment import Environment
from interformer_rec.distributed.parallelize import Parallel
from interformer_rec.errors import InputError
from interformer_rec.files import first_problem
from interformer_rec.planning.answer import Placed
from interformer_rec.planning.explain import TableReport, explain, what_would_help
from interformer_rec.planning.table_plan import TablePlan
from interformer_rec.storage import read_file, write_file
from interformer_rec.text import ranges

FORMAT = 1
RUN = "the run's machines"  # in place of a cluster's name


class _Loose(BaseModel):
    """Keys we do not need to load a plan may be there."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class TablePrint(_Loose):
    """What a table must be for a plan to be its plan."""

    rows: int
    dim: int
    dtype: str
    pooled: bool


class Fingerprint(_Loose):
    """What a plan is for."""

    tables: dict[str, TablePrint]
    ranks: int
    ranks_per_node: int
    device: Literal["cuda", "cpu"]


class PlanFile(_Loose):
    """A plan read back."""

    format: Literal[1]
    fingerprint: Fingerprint
    tables: dict[str, TablePlan]
    step: dict[str, Any] = {}
    memory: dict[str, Any] = {}
    cluster: str = ""
    nodes: int = 0
    batch_size: int = 0


def to_dict(placed: Placed, reports: list[TableReport] | None = None) -> dict[str, Any]:
    """JSON-able, keys as in docs/reference/plan.md; `reports` from explain, made here if not given."""
    problem, memory = placed.problem, placed.memory
    reports = explain(placed) if reports is None else reports
    by_name = {report.name: report for report in reports}
    return {
        **_head(
            problem.config,
            problem.cluster.name,
            problem.batch_size,
            Fingerprint(
                tables={
                    name: TablePrint(
                        rows=t.rows, dim=t.dim, dtype="float32" if t.weight_bytes == 4 else "float16", pooled=t.pooled
                    )
                    for name, t in problem.tables.items()
                },
                ranks=problem.ranks,
                ranks_per_node=problem.cluster.devices_per_node,
                device=problem.cluster.device,
            ),
        ),
        "reserve": problem.reserve,
        "tables": {option.name: _table(option, by_name[option.name]) for option in placed.options},
        "step": {
            **placed.time.items,
            "total": placed.time.total,
            "bottleneck": placed.time.bottleneck,
            "bottleneck_rank": placed.time.bottleneck_rank,
            "samples_per_second": placed.samples_per_second,
            "what_would_help": what_would_help(placed),
            "lookup_by_rank": placed.time.lookup.tolist(),
            "update_by_rank": placed.time.update.tolist(),
        },
        "notes": problem.notes,
        "search": {"slowest_rank_ms": placed.perf, "bound_ms": placed.bound, "seconds": placed.seconds},
        "memory": {
            "capacity": memory.capacity,
            "host_capacity": memory.host_capacity,
            "usable": problem.usable,
            "moment": memory.moment,
            "peak": memory.peak.tolist(),
            "host": memory.host.tolist(),
            **{
                moment: {name: values.tolist() for name, values in getattr(memory, moment).items()}
                for moment in ("always", "dense_stage", "exchange")
            },
        },
        "statistics": problem.sizes.to_dict(),
        "sources": problem.sizes.sources,
        "assumptions": problem.cluster.efficiency.model_dump(),
    }


def of_run(config: RunConfig, env: Environment, parallel: Parallel) -> dict[str, Any]:
    """The same for a run, whoever made its plan: without `reserve`, estimates and what they are from, which a run has not."""
    fingerprint = Fingerprint(
        tables={str(row["table"]): TablePrint.model_validate(row) for row in parallel.plan},
        ranks=env.world_size,
        ranks_per_node=env.local_world_size,
        device="cuda" if env.device.type == "cuda" else "cpu",
    )
    return {
        **_head(config, RUN, config.data.batch_size, fingerprint),
        "tables": {
            str(row["table"]): TablePlan.model_validate(row).model_dump(mode="json", exclude={"ms"})
            for row in parallel.plan
        },
        "notes": parallel.notes,
    }


def _head(config: RunConfig, cluster: str, batch_size: int, fingerprint: Fingerprint) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": __version__,
        "name": config.name,
        "fingerprint": fingerprint.model_dump(mode="json"),
        "cluster": cluster,
        "nodes": -(-fingerprint.ranks // fingerprint.ranks_per_node),
        "batch_size": batch_size,
    }


def _table(option: ShardingOption, report: TableReport) -> dict[str, Any]:
    return {
        **TablePlan.of(option).model_dump(mode="json"),
        "ms": report.ms,
        "ids_per_row": report.ids_per_row,
        "device_bytes": report.device_bytes,
        "host_bytes": report.host_bytes,
        "kept_on": report.kept_on,
        "rejected": [asdict(rejected) for rejected in report.rejected],
    }


def write_plan(path: str, content: dict[str, Any]) -> None:
    """Write the JSON to a path or URI, whole or not at all. Raises InputError where it cannot be written."""
    write_file(path, json.dumps(content, indent=1) + "\n")


def read_plan(path: str) -> PlanFile:
    """From a path or URI. Raises InputError if it is no plan of a format this release knows."""
    try:
        return PlanFile.model_validate_json(read_file(path, "plan"))
    except ValidationError as error:
        raise InputError(
            f"{path!r} is not a plan of format {FORMAT}: {first_problem(error)}. Write it again with `interformer plan --out`"
        ) from None


def diff(first: str, second: str) -> dict[str, Any]:
    """What differs between two plan files: `job`, `tables` (those that lie elsewhere), `step` and `memory` (before, after)."""
    a, b = read_plan(first), read_plan(second)
    fields = ("cluster", "nodes", "batch_size")
    job = {f: (getattr(a, f), getattr(b, f)) for f in fields if getattr(a, f) != getattr(b, f)}
    names = sorted(a.tables.keys() | b.tables.keys())
    moved = {n: (_where(a.tables.get(n)), _where(b.tables.get(n))) for n in names if a.tables.get(n) != b.tables.get(n)}
    tables = {name: pair for name, pair in moved.items() if pair[0] != pair[1]}
    both = {k: (v, b.step[k]) for k, v in a.step.items() if k in b.step and isinstance(v, (int, float))}
    step = {k: pair for k, pair in both.items() if pair[0] != pair[1]}
    peaks = [max(plan.memory["peak"]) for plan in (a, b) if plan.memory.get("peak")]
    return {
        "job": job,
        "tables": tables,
        "step": step,
        "memory": {"fullest rank": tuple(peaks)} if len(set(peaks)) == 2 else {},
    }


def _where(table: TablePlan | None) -> str:
    if table is None:
        return "-"
    return f"{table.sharding}/{table.kernel} on {ranges({shard[0] for shard in table.shards})}"
