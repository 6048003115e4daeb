"""What a plan does with each table, and the caches of tables in host memory."""

from torchrec.distributed.types import EmbeddingModuleShardingPlan, ParameterSharding, ShardingPlan

from interformer_rec.distributed.sharding import cached
from tests.distributed.tiny import ROWS, build
from tests.launch import on_one


def _plan(env):
    return {one.table: one for one in build(env).plan}


def test_plan_describes_every_table():
    plan = on_one(_plan)
    assert {name: one.rows for name, one in plan.items()} == ROWS
    assert all(one.shards == [[0, 0, 0, one.rows, 64]] and one.ranks == [0] for one in plan.values())
    assert {name: one.pooled for name, one in plan.items()} == {name: name.startswith("bag") for name in ROWS}
    assert {one.dtype for one in plan.values()} == {"float32"}


def test_only_tables_in_host_memory_get_a_cache_which_is_filled_ahead():
    kernels = ("fused", "fused_uvm", "fused_uvm_caching", "dense")
    tables = {kernel: ParameterSharding("table_wise", kernel, [0]) for kernel in kernels}
    cached(ShardingPlan({"tables": EmbeddingModuleShardingPlan(tables)}), 0.25)
    cache = tables.pop("fused_uvm_caching").cache_params
    assert cache.load_factor == 0.25 and cache.prefetch_pipeline
    assert all(table.cache_params is None for table in tables.values())
