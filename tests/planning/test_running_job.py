"""The plan that a job makes at its start: the search of `interformer plan`, the wishes of the config, the same on every rank."""

from __future__ import annotations

import dataclasses
import itertools
import re
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from torchrec.distributed.planner import EmbeddingShardingPlanner

from interformer_rec.config.run import RunConfig, parse_yaml
from interformer_rec.data.fit import Fitted
from interformer_rec.distributed.environment import Environment
from interformer_rec.distributed.sharding import ShardedTable, cached, describe, tables_of
from interformer_rec.distributed.sharding_types import SHARDING_TYPES, check_wish, not_automatic, not_possible
from interformer_rec.errors import InputError
from interformer_rec.host import total_memory
from interformer_rec.model.task import build_task
from interformer_rec.planning import torchrec_plan
from interformer_rec.planning.answer import place
from interformer_rec.planning.constraints import kinds_of, load_constraints
from interformer_rec.planning.cost.dense import DenseCosts
from interformer_rec.planning.cost.sizes import find_sizes
from interformer_rec.planning.question import Problem
from interformer_rec.planning.running_job import cluster_of_job, plan_of_job
from interformer_rec.planning.table_plan import TablePlan
from interformer_rec.training.build import build_parallel
from tests.launch import on_one, on_ranks
from tests.planning.cases import CONFIG

PLANNERS = ("interformer", "torchrec")
POOLED, SEQUENCE = {"user", "city", "words"}, {"item", "tag"}
WISHES = {"item": "data_parallel", "user": "row_wise", "city": "grid_shard"}  # none can be
GPU = SimpleNamespace(total_memory=80 << 30)


def config_of(*sets: str) -> RunConfig:
    return parse_yaml(CONFIG, "test", sets)


def rows_of(config: RunConfig) -> dict[str, int]:
    return find_sizes(config).rows


def task_of(config: RunConfig) -> torch.nn.Module:
    return build_task(config.features, config.model, rows_of(config), device=torch.device("meta"))


def planned(env: Environment, *sets: str) -> dict[str, ShardedTable]:
    """Table -> what `describe` says of it."""
    config = config_of(*sets)
    task = task_of(config)
    return {one.table: one for one in describe(plan_of_job(config, task, rows_of(config), env).tables, tables_of(task))}


def asked(env: Environment) -> tuple[dict[str, Any], dict[str, Any], set[str]]:
    """What a job plans, what `interformer plan` would for the same cluster, and the dense blocks that were measured for it."""
    config = config_of()
    cluster = cluster_of_job(env)
    constraints = load_constraints(None, config.sharding, kinds_of(tables_of(task_of(config)), "rowwise_adagrad"))
    problem = Problem(config, cluster, env.world_size // cluster.devices_per_node, 16, find_sizes(config), constraints)
    placed = place(problem)
    here = planned(env)
    found = {name: TablePlan.model_validate(vars(one)) for name, one in here.items()}
    return found, {option.name: TablePlan.of(option) for option in placed.options}, set(problem.dense.activations)


@pytest.mark.parametrize("ranks", [1, 4])
def test_a_job_plans_as_the_command_does_and_the_same_on_every_rank(ranks: int):
    results = on_ranks(ranks, asked) if ranks > 1 else [on_one(asked)]
    job, command, blocks = results[0]
    assert job == command and job.keys() == POOLED | SEQUENCE
    assert all(other[0] == job for other in results)
    assert blocks  # the command has run the model


def test_the_model_is_not_run_for_a_plan():
    with mock.patch.object(DenseCosts, "of", side_effect=AssertionError("the model was run")):
        assert on_one(planned).keys() == POOLED | SEQUENCE


def with_defaults(env: Environment) -> dict[tuple[str, str], tuple[dict[str, str], list[str]]]:
    """Of both planners and every default: the type of each table, and the notes."""
    found = {}
    for planner, default in itertools.product(PLANNERS, SHARDING_TYPES):
        config = config_of(f"sharding.planner={planner}", f"sharding.default={default}")
        parallel = build_parallel(config, env, Fitted(rows_of(config)))
        found[planner, default] = {one.table: one.sharding for one in parallel.plan}, parallel.notes
    return found


@pytest.mark.parametrize("ranks", [1, 4])
def test_every_table_that_may_have_the_default_gets_it_and_the_others_are_named(ranks: int):
    found, *others = on_ranks(ranks, with_defaults)
    assert all(other == found for other in others)
    for (_, default), (types, notes) in found.items():
        able = {name for name in types if not_possible(name in POOLED, default, "cpu") is None}
        assert {name for name, kind in types.items() if kind == default} >= able
        for name in types.keys() - able:  # as auto: never cut by columns
            assert (
                not_possible(name in POOLED, types[name], "cpu") is None
                and not_automatic(types[name], 8, ranks) is None
            )
        named = [note.endswith(", ".join(sorted(types.keys() - able))) for note in notes]
        assert named == ([] if able == types.keys() else [True])


def test_a_wish_holds_for_its_table_only():
    plan = on_ranks(
        2, planned, "sharding.tables={user: row_wise, item: table_wise}".replace("row_wise", "column_wise")
    )[0]
    assert plan["user"].sharding == "column_wise" and plan["item"].sharding == "table_wise"
    assert not any("column" in one.sharding for name, one in plan.items() if name != "user")


def refused(env: Environment) -> dict[str, list[str]]:
    """Planner -> the errors of wishes that cannot be, and of tables that do not fit."""
    found: dict[str, list[str]] = {}
    for planner in PLANNERS:
        for table, wish in WISHES.items():
            config = config_of(f"sharding.planner={planner}", f"sharding.tables.{table}={wish}")
            with pytest.raises(InputError) as caught:
                build_parallel(config, env, Fitted(rows_of(config)))
            found.setdefault(planner, []).append(str(caught.value))
        config = config_of(f"sharding.planner={planner}")
        with (
            mock.patch.object(torchrec_plan, "total_memory", return_value=1 << 12),
            pytest.raises(InputError) as caught,
        ):
            build_parallel(config, env, Fitted(rows_of(config)))
        found[planner].append(str(caught.value))
    return found


def test_what_cannot_be_is_the_same_error_on_every_rank_and_of_both_planners():
    first, second = on_ranks(2, refused)
    assert first == second and first["interformer"] == first["torchrec"]
    *wishes, full = first["interformer"]
    for (table, wish), text in zip(WISHES.items(), wishes, strict=True):
        with pytest.raises(InputError, match=f"^{re.escape(text)}$"):
            check_wish(table, table in POOLED, wish, "cpu")
    assert wishes[0].startswith("sharding.tables.item is data_parallel, but table 'item' is read by a history")
    assert full.startswith("no sharding plan for 5 tables on 2 cpu rank(s): they do not fit. Their weights are ")
    assert re.search(
        r"the largest table is '\w+' with [0-9,]+ rows of \d+ floats, [0-9.]+ KiB; a rank has 2\.0 KiB of host", full
    )
    assert "\n" not in full


def test_the_config_chooses_the_planner():
    broken = mock.patch.object(
        EmbeddingShardingPlanner, "plan", side_effect=RuntimeError("TorchRec's planner was asked")
    )

    def build(env: Environment, planner: str) -> set[str]:
        config = config_of(f"sharding.planner={planner}")
        with broken:
            return {one.table for one in build_parallel(config, env, Fitted(rows_of(config))).plan}

    assert on_one(build, "interformer") == POOLED | SEQUENCE
    with pytest.raises(RuntimeError, match=r"^TorchRec's planner was asked$"):
        on_one(build, "torchrec")


def on_gpus(env: Environment, ranks: int, local: int) -> Environment:
    return dataclasses.replace(env, world_size=ranks, local_world_size=local, device=torch.device("cuda"))


def with_a_cache(env: Environment) -> list[tuple[str, Any]]:
    """Of every table on two GPUs with a cache: kernel and cache."""
    config = config_of("sharding.host_cache=0.25")
    task = task_of(config)
    with (
        mock.patch.object(torch.cuda, "get_device_properties", return_value=GPU),
        mock.patch.object(Environment, "on_main", lambda self, function: function()),
    ):
        plan = plan_of_job(config, task, rows_of(config), on_gpus(env, 2, 2)).tables
    cached(plan, 0.25)
    shards = [shard for part in plan.plan.values() for shard in part.values()]  # type: ignore[attr-defined]
    return [(shard.compute_kernel, shard.cache_params) for shard in shards]


def test_tables_in_host_memory_are_cached_on_a_gpu_and_fetched_ahead():
    found = on_one(with_a_cache)
    assert {kernel for kernel, _ in found} <= {"fused_uvm_caching", "dense"}
    caches = [cache for kernel, cache in found if kernel == "fused_uvm_caching"]
    assert len(caches) >= len(SEQUENCE) and all(c.load_factor == 0.25 and c.prefetch_pipeline for c in caches)
    assert all(cache is None for kernel, cache in found if kernel == "dense")
    assert {one.kernel for one in on_one(planned, "sharding.host_cache=0.25").values()} == {"fused"}


def test_the_cluster_of_a_job_is_what_it_sees():
    def clusters(env: Environment) -> list[Any]:
        with mock.patch.object(
            torch.cuda, "get_device_properties", return_value=SimpleNamespace(total_memory=150109880320)
        ):
            return [cluster_of_job(env), cluster_of_job(on_gpus(env, 16, 8)), cluster_of_job(on_gpus(env, 3, 2))]

    here, gpus, uneven = on_one(clusters)
    assert (here.device, here.devices_per_node, here.max_nodes) == ("cpu", 1, 1)
    assert here.device_bytes == pytest.approx(total_memory(), rel=1e-6)
    assert (gpus.devices_per_node, gpus.max_nodes, gpus.hbm_gb_per_s) == (8, 2, 4800)  # as dgx-h200
    assert gpus.device_bytes == pytest.approx(150109880320, rel=1e-6)
    assert (uneven.devices_per_node, uneven.max_nodes) == (1, 3)  # hosts with two ranks and with one
