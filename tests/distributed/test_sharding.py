"""What the planner may choose, and the error for what it may not."""

import dataclasses
from types import SimpleNamespace
from unittest import mock

import pytest
import torch

from interformer_rec.distributed.sharding import plan_on_one, sharders
from interformer_rec.errors import InputError
from tests.distributed.tiny import ROWS, Tiny, build
from tests.launch import on_one


def _plan(env, default, wishes):
    return {row["table"]: row for row in build(env, default, **wishes).plan}


def test_plan_describes_every_table():
    plan = on_one(_plan, "auto", {})
    assert {name: row["rows"] for name, row in plan.items()} == ROWS
    assert all(row["bytes"] == row["rows"] * 64 * 4 and row["ranks"] == [0] for row in plan.values())


def test_auto_does_not_cut_narrow_rows():
    assert not any("column" in row["sharding"] for row in on_one(_plan, "auto", {}).values())


def test_a_wish_holds_for_its_table_only():
    plan = on_one(_plan, "table_wise", {"seq_a": "row_wise"})
    assert {name: row["sharding"] for name, row in plan.items()} == {
        "bag_a": "table_wise",
        "bag_b": "table_wise",
        "seq_a": "row_wise",
        "seq_b": "table_wise",
    }


@pytest.mark.parametrize(
    ("table", "wish"), [("seq_a", "data_parallel"), ("bag_a", "row_wise"), ("bag_b", "grid_shard")]
)
def test_an_impossible_wish_names_table_and_choices(table, wish):
    with pytest.raises(InputError, match=f"sharding.tables.{table} is {wish}.*may only be .*table_wise"):
        on_one(_plan, "auto", {table: wish})


def _cached(env, device):
    place = dataclasses.replace(env, device=torch.device(device))
    memory = SimpleNamespace(total_memory=80 << 30)
    with mock.patch.object(torch.cuda, "get_device_properties", return_value=memory):  # the planner asks for no more
        plan = plan_on_one(Tiny(), sharders({}), place, 8, "auto", {}, 0.25)
    shards = [shard for part in plan.plan.values() for shard in part.values()]
    return [(shard.compute_kernel, shard.cache_params) for shard in shards]


def test_tables_in_host_memory_are_cached_on_a_gpu_and_fetched_ahead():
    for kernel, cache in on_one(_cached, "cuda"):
        assert kernel == "fused_uvm_caching" and cache.load_factor == 0.25 and cache.prefetch_pipeline
    assert all(kernel == "fused" and cache is None for kernel, cache in on_one(_cached, "cpu"))
