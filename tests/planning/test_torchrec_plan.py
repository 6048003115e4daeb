"""What TorchRec's planner may choose; what it may not is in test_running_job.py, with our planner."""

import dataclasses
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from torchrec.distributed.planner import EmbeddingShardingPlanner

from interformer_rec.config.run import ShardingConfig
from interformer_rec.distributed.environment import Environment
from interformer_rec.planning.torchrec_plan import torchrec_plan
from tests.distributed.tiny import Tiny, build
from tests.launch import on_one


def _plan(env, default, wishes):
    return {one.table: one for one in build(env, default, **wishes).plan}


def test_auto_does_not_cut_narrow_rows():
    assert not any("column" in one.sharding for one in on_one(_plan, "auto", {}).values())


def test_a_wish_holds_for_its_table_only():
    plan = on_one(_plan, "table_wise", {"seq_a": "row_wise"})
    assert {name: one.sharding for name, one in plan.items()} == {
        "bag_a": "table_wise",
        "bag_b": "table_wise",
        "seq_a": "row_wise",
        "seq_b": "table_wise",
    }


def _kernels(env, device):
    place = dataclasses.replace(env, device=torch.device(device))
    memory = SimpleNamespace(total_memory=80 << 30)
    with mock.patch.object(torch.cuda, "get_device_properties", return_value=memory):  # the planner asks for no more
        plan = torchrec_plan(Tiny(), place, batch_size=8, sharding=ShardingConfig(host_cache=0.25))
    return {shard.compute_kernel for part in plan.plan.values() for shard in part.values()}


def test_with_a_cache_tables_lie_in_host_memory_of_a_gpu():
    with mock.patch.object(Environment, "on_main", lambda self, function: function()):
        assert on_one(_kernels, "cuda") == {"fused_uvm_caching"}
    assert on_one(_kernels, "cpu") == {"fused"}


def _rank_0_fails(env):
    with mock.patch.object(EmbeddingShardingPlanner, "plan", side_effect=RuntimeError("Connection closed by peer")):
        return build(env)


def test_no_sharding_plan_is_said_only_of_that():
    with pytest.raises(RuntimeError, match=r"^Connection closed by peer$"):
        on_one(_rank_0_fails)
