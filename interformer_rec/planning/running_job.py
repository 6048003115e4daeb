"""The plan of a job that is about to train. In: its config, model and data, and where its ranks run; out: a JobPlan.

The search and the estimates are those of `interformer plan`, but a training job waits for them, so only what decides where tables lie
is estimated: the dense part is not run, and a fixed share of the memory is kept free for it. The cluster is the job's own: number of
ranks, device and memory as they are here, bandwidths of a known cluster that is like it.
"""

from dataclasses import dataclass, replace
from functools import cached_property

from torch import nn

from interformer_rec.config.run import RunConfig
from interformer_rec.data.files.source import Source
from interformer_rec.distributed.environment import Environment
from interformer_rec.distributed.lookup.communication import Exchange
from interformer_rec.distributed.sharding import tables_of
from interformer_rec.errors import InputError
from interformer_rec.planning.answer import DoesNotFit, place
from interformer_rec.planning.constraints import Constraints, kinds_of, load_constraints, without_default
from interformer_rec.planning.cost.cluster import Cluster, known, load_cluster
from interformer_rec.planning.cost.dense import DenseCost
from interformer_rec.planning.cost.memory import ConstantBytes
from interformer_rec.planning.cost.sizes import sizes_of_job
from interformer_rec.planning.load_plan import JobPlan, load_plan, sharding_plan
from interformer_rec.planning.question import Problem
from interformer_rec.planning.table_plan import TablePlan
from interformer_rec.planning.torchrec_plan import RESERVED, dense_bytes, memory_of, no_plan, torchrec_plan
from interformer_rec.text import GIB

NAME = "this job"  # of the cluster that a job runs on


def plan_of_job(
    config: RunConfig, task: nn.Module, rows: dict[str, int], env: Environment, source: Source | None = None
) -> JobPlan:
    """The plan of the file that sharding.plan names, or one that is made here (collective).

    `task`: tables on meta; `rows`: of each table; `source`: where list lengths are counted, if anywhere. Raises InputError where a wish
    cannot be fulfilled, the tables do not fit, or the file is not for this model and job.
    """
    sharding, device = config.sharding, env.device.type
    if sharding.plan is not None:
        return load_plan(sharding.plan, task, env.world_size, env.local_world_size, device, sharding)
    optimizer = config.optimizer.embedding.kind
    kinds = kinds_of(tables_of(task), optimizer)
    constraints = load_constraints(None, sharding, kinds)
    note = without_default(kinds.values(), constraints, device, env.world_size, {})
    notes = () if note is None else (note,)
    if sharding.planner == "torchrec":
        if sharding.communication == "auto":
            raise InputError(
                "sharding.communication is auto, and sharding.planner torchrec, which does not choose it: name fp32, fp16 or bf16"
            )
        batch_size = config.data.batch_size
        plan = torchrec_plan(task, env, batch_size=batch_size, sharding=sharding, optimizer=optimizer)
        return JobPlan(plan, Exchange.of(sharding, env.world_size), sharding.host_cache, notes)
    plan = env.on_main(lambda: _plan(config, task, rows, env, constraints, source))
    return replace(plan, notes=(*notes, *plan.notes))


def _plan(
    config: RunConfig,
    task: nn.Module,
    rows: dict[str, int],
    env: Environment,
    constraints: Constraints,
    source: Source | None,
) -> JobPlan:
    """On one rank. What goes wrong here is about the plan alone: no other rank is waited for."""
    infos, cluster = tables_of(task), cluster_of_job(env)
    problem = _JobProblem(
        config=config,
        cluster=cluster,
        nodes=env.world_size // cluster.devices_per_node,
        batch_size=config.data.batch_size,
        sizes=sizes_of_job(config.features, rows, source if env.world_size > 1 else None),
        constraints=constraints,
        reserve=RESERVED,
        task=task,
    )
    try:
        placed = place(problem)
    except DoesNotFit as error:
        raise InputError(no_plan(infos, env)) from error
    tables = {option.name: TablePlan.of(option) for option in placed.options}
    plan = sharding_plan(tables, infos, env.device.type, env.local_world_size)
    if placed.exchange == Exchange.of(config.sharding, env.world_size):
        return JobPlan(plan, placed.exchange, config.sharding.host_cache)
    reasons = "; ".join(placed.choice.reasons(placed.exchange, placed.time.total))
    return JobPlan(
        plan, placed.exchange, config.sharding.host_cache, (f"the planner chose {placed.exchange.text}: {reasons}",)
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class _JobProblem(Problem):
    """Where tables lie, and nothing else: the dense part costs nothing but a fixed share of the memory."""

    task: nn.Module

    @cached_property
    def model(self) -> nn.Module:
        """The job's own: it is not made twice."""
        return self.task

    @cached_property
    def dense(self) -> DenseCost:
        """Not measured."""
        return DenseCost({}, {}, 0, 0, 0)

    @cached_property
    def constant(self) -> ConstantBytes:
        """Weights, gradients and optimizer of the dense part; the reserve is for all the rest."""
        return ConstantBytes({"dense part": dense_bytes(self.task)}, {}, {})


def cluster_of_job(env: Environment) -> Cluster:
    """Ranks, device and memory as they are here; bandwidths of the known cluster of this device whose GPUs have a memory most like it.

    A plan depends on the ratios of bandwidths alone, and those are alike. Hosts with different numbers of ranks: a host a rank.
    """
    gpu, host = memory_of(env)
    clusters = [load_cluster(name) for name in known()]
    like = min(
        (cluster for cluster in clusters if cluster.device == env.device.type),
        key=lambda cluster: abs(cluster.hbm_gib * GIB - gpu),
    )
    local = 1 if env.world_size % env.local_world_size else env.local_world_size
    there = {
        "name": NAME,
        "devices_per_node": local,
        "hbm_gib": gpu / GIB,
        "ddr_gib": host * local / GIB,
        "max_nodes": env.world_size // local,
    }
    return like.model_copy(update=there)
