"""A plan as a JSON file. In: a Placed, or a run; out: JSON that anything can read, a PlanFile read back.

`interformer plan --out` writes it, and `interformer train` as plan.json of the run folder, whoever made the plan: that one has no
estimates. docs/reference/plan.md says what each key means.
"""

import json
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from torchrec.distributed.planner.types import ShardingOption

from interformer_rec import __version__
from interformer_rec.config.run import RunConfig
from interformer_rec.distributed.environment import Environment
from interformer_rec.distributed.lookup.communication import Exchange, Precision
from interformer_rec.distributed.parallelize import Parallel
from interformer_rec.errors import InputError
from interformer_rec.files import first_problem
from interformer_rec.planning.answer import Placed
from interformer_rec.planning.clock import clock
from interformer_rec.planning.cost.evaluation_memory import evaluates, evaluation_memory
from interformer_rec.planning.cost.traffic import traffic
from interformer_rec.planning.explain import TableReport, explain, what_would_help
from interformer_rec.planning.table_plan import TablePlan
from interformer_rec.storage import read_file, write_file

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


class HowSent(_Loose):
    """The exchange that a plan is for, as keys of the config's `sharding`."""

    deduplicate: bool
    communication: Precision
    host_cache: float | None = None  # share of their rows that tables in host memory have in a cache on the device


class PlanFile(_Loose):
    """A plan read back."""

    format: Literal[1]
    fingerprint: Fingerprint
    sharding: HowSent
    tables: dict[str, TablePlan]
    step: dict[str, Any] = {}
    memory: dict[str, Any] = {}
    name: str = ""
    cluster: str = ""
    nodes: int = 0
    batch_size: int = 0

    @property
    def exchange(self) -> Exchange:
        """How its vectors travel."""
        return Exchange(self.sharding.deduplicate, self.sharding.communication)


def to_dict(placed: Placed, reports: list[TableReport] | None = None) -> dict[str, Any]:
    """JSON-able, keys as in docs/reference/plan.md; `reports` from explain, made here if not given."""
    problem = placed.problem
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
        "sharding": {**vars(placed.exchange), "host_cache": placed.host_cache},
        "exchanges": {
            "tried": placed.choice.to_dict(),
            "why": placed.choice.reasons(placed.exchange, placed.time.total),
        },
        "tables": {option.name: _table(option, by_name[option.name]) for option in placed.options},
        "step": {
            **placed.time.items,
            **asdict(clock(placed)),
            "bottleneck_rank": placed.time.bottleneck_rank,
            "what_would_help": what_would_help(placed),
            "lookup_by_rank": placed.time.lookup.tolist(),
            "update_by_rank": placed.time.update.tolist(),
            "exchange_by_rank": (placed.time.forward + placed.time.backward).tolist(),
            "tables_by_rank": placed.time.by_rank.tolist(),
        },
        "sent": traffic(problem, placed.options).to_dict(),
        "notes": problem.notes,
        "search": {"tables_ms": placed.perf, "step_bound_ms": placed.step_bound, "seconds": placed.seconds},
        "memory": _memory(placed),
        "statistics": problem.sizes.to_dict(),
        "sources": problem.sizes.sources,
        "assumptions": problem.cluster.efficiency.model_dump(),
        "assumptions_from": problem.cluster.origin,
    }


def _memory(placed: Placed) -> dict[str, Any]:
    problem, memory = placed.problem, placed.memory
    evaluation = evaluation_memory(problem, placed.options, memory) if evaluates(problem.config) else {}
    return {
        "capacity": memory.capacity,
        "host_capacity": memory.host_capacity,
        "usable": problem.usable,
        "moment": memory.moment,
        "peak": memory.peak.tolist(),
        "host": memory.host.tolist(),
        "evaluation_peak": np.sum(list(evaluation.values()), axis=0).tolist() if evaluation else [],
        "evaluation_rows": problem.config.data.eval_batch_size,
        **{
            moment: {name: values.tolist() for name, values in getattr(memory, moment).items()}
            for moment in ("always", "dense_stage", "exchange")
        },
    }


def of_run(config: RunConfig, env: Environment, parallel: Parallel) -> dict[str, Any]:
    """The same for a run, whoever made its plan: without `reserve`, estimates and what they are from, which a run has not."""
    fingerprint = Fingerprint(
        tables={one.table: TablePrint.model_validate(vars(one)) for one in parallel.plan},
        ranks=env.world_size,
        ranks_per_node=env.local_world_size,
        device="cuda" if env.device.type == "cuda" else "cpu",
    )
    return {
        **_head(config, RUN, config.data.batch_size, fingerprint),
        "sharding": {**vars(parallel.exchange), "host_cache": parallel.host_cache},
        "tables": {
            one.table: TablePlan.model_validate(vars(one)).model_dump(mode="json", exclude={"ms"})
            for one in parallel.plan
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
