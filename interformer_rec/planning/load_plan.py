"""A plan file for a model. In: the file, the model with its tables on meta, the job; out: a JobPlan, or what does not fit."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn
from torch.distributed._shard.sharding_spec import EnumerableShardingSpec, ShardMetadata
from torchrec.distributed.planner.utils import placement
from torchrec.distributed.types import EmbeddingModuleShardingPlan, ParameterSharding, ShardingPlan

from interformer_rec.config.run import ShardingConfig
from interformer_rec.distributed.lookup.communication import Exchange
from interformer_rec.distributed.sharding import TableInfo, dtype_of, tables_of
from interformer_rec.distributed.sharding_types import check_planned, not_possible
from interformer_rec.errors import InputError
from interformer_rec.planning.choose.exchange import agreed
from interformer_rec.planning.plan_file import Fingerprint, PlanFile, TablePrint, read_plan
from interformer_rec.planning.table_plan import TablePlan

AS_PLANNED = ShardingConfig()


@dataclass(frozen=True)
class JobPlan:
    """What a job trains with: where its tables lie, how their vectors travel, what the user should know of it."""

    tables: ShardingPlan
    exchange: Exchange
    host_cache: float | None = None
    notes: tuple[str, ...] = ()

    def section(self, sharding: ShardingConfig) -> ShardingConfig:
        """The config's, with what was planned."""
        return self.exchange.into(sharding).model_copy(update={"host_cache": self.host_cache})


def load_plan(
    path: str, model: nn.Module, ranks: int, ranks_per_node: int, device: str, sharding: ShardingConfig = AS_PLANNED
) -> JobPlan:
    """The file's plan for this model and job (config: sharding.plan).

    Raises InputError that names every difference: tables, rows, dims, ranks, device, and what `sharding` asks for besides.
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
    check_planned({name: table.sharding for name, table in plan.tables.items()}, sharding.tables)
    agreed(sharding, plan.sharding.model_dump(), path)
    return JobPlan(sharding_plan(plan.tables, infos, device, ranks_per_node), plan.exchange, plan.sharding.host_cache)


def sharding_plan(
    tables: Mapping[str, TablePlan], infos: Mapping[str, TableInfo], device: str, ranks_per_node: int
) -> ShardingPlan:
    """As TorchRec's planner would have returned it."""
    modules: dict[str, EmbeddingModuleShardingPlan] = {}
    for name, table in tables.items():
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
            rows=config.num_embeddings, dim=config.embedding_dim, dtype=dtype_of(config), pooled=infos[name].pooled
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
    if (reason := not_possible(shape.pooled, table.sharding, job.device, table.kernel)) is not None:
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
    if copies == 1 and (pair := _overlap(table)) is not None:
        return [f"shards {list(pair[0])} and {list(pair[1])} overlap"]
    ranks = [shard[0] for shard in table.shards]
    if table.sharding == "table_wise" and len(ranks) != 1:
        return [f"table_wise is one shard, not {len(ranks)}"]
    if table.sharding in ("row_wise", "data_parallel") and sorted(ranks) != list(range(job.ranks)):
        return [f"{table.sharding} has a shard on each of the {job.ranks} ranks, once"]
    return []


def _overlap(table: TablePlan) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Two shards that share rows and columns."""
    full = sorted((shard for shard in table.shards if shard[3] * shard[4]), key=lambda shard: shard[1])
    for number, one in enumerate(full):
        for other in full[number + 1 :]:
            if other[1] >= one[1] + one[3]:
                break
            if one[2] < other[2] + other[4] and other[2] < one[2] + one[4]:
                return one, other
    return None
