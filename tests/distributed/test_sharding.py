"""What the planner may choose, and the error for what it may not."""

import dataclasses
import re
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from torchrec.distributed.planner import EmbeddingShardingPlanner

from interformer_rec.distributed import sharding
from interformer_rec.distributed.sharding import plan_on_one, sharders
from interformer_rec.distributed.sharding_types import allowed_types, check_planned, not_possible
from interformer_rec.errors import InputError
from tests.distributed.tiny import ROWS, Tiny, build
from tests.launch import on_one, on_ranks


def _plan(env, default, wishes):
    return {row["table"]: row for row in build(env, default, **wishes).plan}


def test_plan_describes_every_table():
    plan = on_one(_plan, "auto", {})
    assert {name: row["rows"] for name, row in plan.items()} == ROWS
    assert all(row["shards"] == [[0, 0, 0, row["rows"], 64]] and row["ranks"] == [0] for row in plan.values())


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


TYPES = ("data_parallel", "table_wise", "row_wise", "column_wise", "table_row_wise", "table_column_wise", "grid_shard")


def _with_defaults(env):
    """Of every default: the type of each table, and the notes."""
    found = {}
    for default in TYPES:
        parallel = build(env, default)
        found[default] = {row["table"]: row["sharding"] for row in parallel.plan}, parallel.notes
    return found


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_every_table_that_may_have_the_default_gets_it_and_the_others_are_named(ranks):
    (found, *others) = on_ranks(ranks, _with_defaults)
    assert all(other == found for other in others)
    for default, (types, notes) in found.items():
        able = {name for name in ROWS if not_possible(name.startswith("bag"), default, "cpu") is None}
        assert {name for name, kind in types.items() if kind == default} >= able
        for name in ROWS.keys() - able:
            assert types[name] in allowed_types(
                name.startswith("bag"), 64, "cpu", ranks
            )  # as auto: never cut by columns
        assert len(notes) == (able != set(ROWS))
        if notes:
            assert notes[0].startswith(f"sharding.default is {default}, which {4 - len(able)} table(s) may not have")
            assert notes[0].endswith(", ".join(sorted(ROWS.keys() - able)))
    assert found["row_wise"][0]["seq_a"] == "row_wise" and found["row_wise"][0]["bag_a"] in (
        "table_wise",
        "data_parallel",
    )


def _rank_0_fails(env):
    with mock.patch.object(EmbeddingShardingPlanner, "plan", side_effect=RuntimeError("Connection closed by peer")):
        return build(env)


def test_no_sharding_plan_is_said_only_of_that():
    with pytest.raises(RuntimeError, match=r"^Connection closed by peer$"):
        on_one(_rank_0_fails)


def _does_not_fit(env):
    with mock.patch.object(sharding, "total_memory", return_value=1 << 12), pytest.raises(InputError) as caught:
        build(env)
    return str(caught.value)


def test_tables_that_do_not_fit_are_an_error_on_every_rank():
    for text in on_ranks(2, _does_not_fit):
        assert text.startswith("no sharding plan for 4 tables on 2 cpu rank(s): they do not fit. Their weights are ")
        assert re.search(
            r"the largest table is '\w+' with [0-9,]+ rows of \d+ floats, [0-9.]+ KiB; a rank has 2\.0 KiB of host",
            text,
        )
        assert "\n" not in text  # none of TorchRec's numbers of shards


def test_a_plan_file_and_a_wish_that_differ_are_an_error():
    check_planned({"seq_a": "row_wise"}, {"seq_a": "row_wise", "seq_b": "auto"})
    with pytest.raises(
        InputError, match=r"sharding\.tables\.seq_a is table_wise, but sharding\.plan makes it row_wise"
    ):
        check_planned({"seq_a": "row_wise"}, {"seq_a": "table_wise"})
