"""A plan as a JSON file. In: a Placed; out: JSON that anything can read. In: such a file; out: TorchRec's ShardingPlan for a model.

Keys (format 1):
    format, version, name    1; the package's version that wrote it; the run's name
    fingerprint              what the plan is for: tables {name: {rows, dim, dtype, pooled}}, ranks, ranks_per_node, device
    cluster, nodes, batch_size, reserve
    tables                   {name: {sharding, kernel, shards: [[rank, row, column, rows, columns], ...], ms, ids_per_row,
                             device_bytes, host_bytes, kept_on, rejected: [{sharding, kernel, reason, slowest_ms, all_ms}]}}
    step                     milliseconds by item, `total`, `bottleneck`, samples_per_second
    notes                    sentences, for example about tables that cannot have the type of sharding.default
    search                   slowest_rank_ms, bound_ms (TorchRec's estimate), seconds
    memory                   capacity, reserved, moment; peak, and items by moment: bytes of every rank
    statistics               tables and sequences, as in a run's data.json: the file works as --statistics of another plan
    sources, assumptions     where sizes are from; efficiencies
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn
from torch.distributed._shard.sharding_spec import EnumerableShardingSpec, ShardMetadata
from torchrec.distributed.planner.types import ShardingOption
from torchrec.distributed.planner.utils import placement
from torchrec.distributed.types import EmbeddingModuleShardingPlan, ParameterSharding, ShardingPlan

from interformer_rec import __version__
from interformer_rec.distributed.sharding import TableInfo, tables_of
from interformer_rec.distributed.sharding_types import not_possible
from interformer_rec.errors import InputError
from interformer_rec.planning.answer import Placed
from interformer_rec.planning.constraints import Kernel
from interformer_rec.planning.explain import TableReport, explain, what_would_help
from interformer_rec.storage import read_file, write_file

FORMAT = 1


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


class TablePlan(_Loose):
    """Where one table lies."""

    sharding: str
    kernel: Kernel
    shards: list[tuple[int, int, int, int, int]]  # rank, first row, first column, rows, columns
    ms: float = 0.0


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
    """JSON-able, keys as in the module's text; `reports` from explain, made here if not given."""
    problem, memory = placed.problem, placed.memory
    reports = explain(placed) if reports is None else reports
    by_name = {report.name: report for report in reports}
    return {
        "format": FORMAT,
        "version": __version__,
        "name": problem.config.name,
        "fingerprint": {
            "tables": {
                name: {
                    "rows": t.rows,
                    "dim": t.dim,
                    "dtype": "float32" if t.weight_bytes == 4 else "float16",
                    "pooled": t.pooled,
                }
                for name, t in problem.tables.items()
            },
            "ranks": problem.ranks,
            "ranks_per_node": problem.cluster.devices_per_node,
            "device": problem.cluster.device,
        },
        "cluster": problem.cluster.name,
        "nodes": problem.nodes,
        "batch_size": problem.batch_size,
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


def _table(option: ShardingOption, report: TableReport) -> dict[str, Any]:
    return {
        "sharding": option.sharding_type,
        "kernel": option.compute_kernel,
        "shards": [[int(s.rank or 0), *s.offset, *s.size] for s in option.shards],
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
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "(file)"
        raise InputError(
            f"{path!r} is not a plan of format {FORMAT}: {where}: {first['msg']}. Write it again with `interformer plan --out`"
        ) from None


def load_plan(path: str, model: nn.Module, *, ranks: int, ranks_per_node: int, device: str) -> ShardingPlan:
    """The file's plan for this model and job (config: sharding.plan).

    Raises InputError that names every difference: tables, rows, dims, ranks, device.
    """
    plan = read_plan(path)
    infos = tables_of(model)
    wrong = _differences(plan, infos, ranks, ranks_per_node, device)
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise InputError(
            f"plan {path!r} is for another model or job: {'; '.join(wrong[:5])}{more}. Make one for this run with `interformer "
            f"plan`, or leave sharding.plan out"
        )
    modules: dict[str, EmbeddingModuleShardingPlan] = {}
    for name, table in plan.tables.items():
        path_of_module = infos[name].path.rsplit(".", 3)[0]
        modules.setdefault(path_of_module, EmbeddingModuleShardingPlan())[name] = ParameterSharding(
            sharding_type=table.sharding,
            compute_kernel=table.kernel,
            ranks=[shard[0] for shard in table.shards],
            sharding_spec=None if table.sharding == "data_parallel" else _spec(table, device, ranks_per_node),
        )
    return ShardingPlan(modules)  # type: ignore[arg-type]


def _spec(table: TablePlan, device: str, ranks_per_node: int) -> EnumerableShardingSpec:
    return EnumerableShardingSpec(
        [
            ShardMetadata(
                shard_sizes=[rows, columns],
                shard_offsets=[row, column],
                placement=placement(device, rank, ranks_per_node),
            )
            for rank, row, column, rows, columns in table.shards
        ]
    )


def _differences(
    plan: PlanFile, infos: dict[str, TableInfo], ranks: int, ranks_per_node: int, device: str
) -> list[str]:
    made_for = plan.fingerprint
    pairs = (
        ("ranks", made_for.ranks, ranks),
        ("ranks a node", made_for.ranks_per_node, ranks_per_node),
        ("device", made_for.device, device),
    )
    wrong = [f"{what}: the plan has {planned}, this job {here}" for what, planned, here in pairs if planned != here]
    for name in sorted(made_for.tables.keys() | infos.keys()):
        if name not in infos or name not in made_for.tables or name not in plan.tables:
            wrong.append(f"table {name!r} is only in the {'plan' if name not in infos else 'model'}")
            continue
        config = infos[name].config
        here = TablePrint(
            rows=config.num_embeddings, dim=config.embedding_dim, dtype=config.data_type.value.lower().replace("fp", "float"),
            pooled=infos[name].pooled,
        )  # fmt: skip
        planned = made_for.tables[name]
        wrong += [
            f"table {name!r}: {field} {getattr(planned, field)} in the plan, {getattr(here, field)} in the model"
            for field in TablePrint.model_fields
            if getattr(planned, field) != getattr(here, field)
        ]
        wrong += [f"table {name!r}: {text}" for text in _misplaced(plan.tables[name], planned, made_for)]
    return wrong


def _misplaced(table: TablePlan, shape: TablePrint, job: Fingerprint) -> list[str]:
    """What is wrong with where a table lies, whoever wrote the file."""
    if (reason := not_possible(shape.pooled, table.sharding, job.device)) is not None:
        return [reason]
    copies = job.ranks if table.sharding == "data_parallel" else 1
    outside = [
        shard for shard in table.shards
        if not 0 <= shard[0] < job.ranks or min(shard) < 0 or shard[1] + shard[3] > shape.rows or shard[2] + shard[4] > shape.dim
    ]  # fmt: skip
    if outside:
        return [f"shard {list(outside[0])} lies outside of the table or the job"]
    corners = {shard[1:3] for shard in table.shards if shard[3] * shard[4]}
    full = sum(shard[3] * shard[4] > 0 for shard in table.shards)
    if sum(s[3] * s[4] for s in table.shards) != copies * shape.rows * shape.dim or len(corners) * copies != full:
        return ["its shards do not cover it"]
    return []


def diff(first: str, second: str) -> dict[str, Any]:
    """What differs between two plan files: `job`, `tables` (those that lie elsewhere), `step` and `memory` (before, after)."""
    a, b = read_plan(first), read_plan(second)
    fields = ("cluster", "nodes", "batch_size")
    job = {f: (getattr(a, f), getattr(b, f)) for f in fields if getattr(a, f) != getattr(b, f)}
    names = sorted(a.tables.keys() | b.tables.keys())
    moved = {n: (_where(a.tables.get(n)), _where(b.tables.get(n))) for n in names if a.tables.get(n) != b.tables.get(n)}
    tables = {name: pair for name, pair in moved.items() if pair[0] != pair[1]}
    step = {k: (v, b.step.get(k)) for k, v in a.step.items() if isinstance(v, (int, float)) and v != b.step.get(k)}
    peaks = tuple(max(plan.memory.get("peak") or [0.0]) for plan in (a, b))
    return {
        "job": job,
        "tables": tables,
        "step": step,
        "memory": {"fullest rank": peaks} if peaks[0] != peaks[1] else {},
    }


def _where(table: TablePlan | None) -> str:
    if table is None:
        return "-"
    ranks = sorted({shard[0] for shard in table.shards})
    spread = (
        f"{ranks[0]}..{ranks[-1]}"
        if len(ranks) > 4 and ranks == list(range(ranks[0], ranks[-1] + 1))
        else str(ranks)[1:-1]
    )
    return f"{table.sharding}/{table.kernel} on {spread}"
