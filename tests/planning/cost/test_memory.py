from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from interformer_rec.config.optimizer import DenseOptimizer
from interformer_rec.planning.answer import place
from interformer_rec.planning.cost.lengths import Lengths
from interformer_rec.planning.cost.memory import (
    FLOAT,
    ID,
    LENGTH,
    Job,
    TableLoad,
    constant_bytes,
    exchange_bytes,
    owner_input,
    rank_memory,
    shard_bytes,
    storage,
)
from tests.planning.cases import CPU, problem

JOB = Job(ranks=8, local_ranks=4, batch_size=100, device="cuda")


def table(optimizer: str = "rowwise_adagrad", pooled: bool = True, **changes) -> TableLoad:
    fields = {
        "name": "t",
        "rows": 1000,
        "dim": 32,
        "pooled": pooled,
        "lengths": (Lengths.constant(3),),
        "optimizer": optimizer,
    }
    return TableLoad(**(fields | changes))


@pytest.mark.parametrize(
    "optimizer, state",
    [("rowwise_adagrad", 1000 * 4), ("adagrad", 1000 * 32 * 4), ("sgd", 0), ("adam", 2 * 1000 * 32 * 4)],
)
def test_optimizer_state_by_kind(optimizer, state):
    parts = shard_bytes(table(optimizer), "table_wise", "fused", (1000, 32), JOB)
    assert (parts.weights, parts.state) == (1000 * 32 * 4, state)


def test_each_column_shard_has_its_own_row_accumulator():
    halves = shard_bytes(table(), "column_wise", "fused", (1000, 16), JOB)
    assert (halves.weights, halves.state) == (1000 * 16 * 4, 1000 * 4)


def test_a_data_parallel_table_has_a_whole_dense_gradient_and_no_owner():
    parts = shard_bytes(table(), "data_parallel", "dense", (1000, 32), JOB)
    assert (parts.gradient, parts.inputs) == (parts.weights, 0)
    assert exchange_bytes(table(), "data_parallel", (1000, 32), JOB) == 0


def test_uvm_tables_lie_in_host_memory_with_a_cache_on_the_device():
    uvm = shard_bytes(table(), "table_wise", "fused_uvm", (1000, 32), JOB)
    cached = shard_bytes(table(), "table_wise", "fused_uvm_caching", (1000, 32), JOB)
    assert uvm.host == cached.host == 1000 * 33 * 4
    assert uvm.cache == uvm.weights == 0
    assert 0.2 * 1000 * 33 * 4 < cached.cache < 0.4 * 1000 * 33 * 4
    kept = storage(cached, "cuda")
    assert (kept.hbm, kept.ddr) == (cached.cache + cached.inputs, cached.host)


def test_ids_at_the_owners_come_from_the_whole_job():
    everyone = 8 * 100
    assert owner_input(table(), "table_wise", JOB) == everyone * (3 * ID + LENGTH)
    assert owner_input(table(), "row_wise", JOB) == everyone * (
        3 / 8 * ID + LENGTH
    )  # lengths of every row all the same
    assert owner_input(table(), "table_row_wise", JOB) == everyone * (3 / 4 * ID + LENGTH)
    assert shard_bytes(table(), "table_wise", "fused", (1000, 32), JOB).inputs == 2 * everyone * (3 * ID + LENGTH)


def test_a_pooled_table_sends_one_vector_a_row_and_a_sequence_one_an_event():
    pooled = exchange_bytes(table(), "table_wise", (1000, 32), JOB)
    events = exchange_bytes(table(pooled=False), "table_wise", (1000, 32), JOB)
    assert events - pooled == (3 - 1) * 8 * 100 * 32 * FLOAT
    assert exchange_bytes(table(), "row_wise", (0, 32), JOB) == 0  # more ranks than rows: an empty shard


def test_longer_histories_need_larger_buffers(tmp_path: Path):
    short = problem(tmp_path, lengths=["clicks=2"])
    long = problem(tmp_path, lengths=["clicks=12"])
    assert long.constant.items["batches as loaded"] > short.constant.items["batches as loaded"]
    assert long.constant.dense_stage > short.constant.dense_stage
    owner = [asked.tables["tag"].ids(64) for asked in (short, long)]
    assert owner == [pytest.approx(2 * 64, rel=0.5), 12 * 64]


def test_dense_part_counts_parameters_gradients_and_two_moments(tmp_path: Path):
    asked = problem(tmp_path)
    items = constant_bytes(asked.config, asked.job, asked.sizes, asked.dense, asked.dense_parameters).items
    assert items["dense parameters"] == items["dense gradients and DDP buckets"] == 4 * asked.dense_parameters
    assert items["dense optimizer (Adam, two moments)"] == 8 * asked.dense_parameters
    assert asked.dense_parameters == sum(p.numel() for p in asked.model.model.parameters())
    averaging = asked.config.optimizer.model_copy(update={"dense": DenseOptimizer(ema=0.99)})
    config = asked.config.model_copy(update={"optimizer": averaging})
    more = constant_bytes(config, asked.job, asked.sizes, asked.dense, asked.dense_parameters).items
    assert sum(more.values()) - sum(items.values()) == 4 * asked.dense_parameters


def test_a_rank_is_the_sum_of_its_shards_and_its_peak_the_larger_moment(tmp_path: Path):
    placed = place(problem(tmp_path, CPU, nodes=2))
    problem_, memory = placed.problem, placed.memory
    weights = sum(t.rows * t.dim * 4 for t in problem_.tables.values())
    replicated = sum(
        problem_.tables[o.name].rows * problem_.tables[o.name].dim * 4
        for o in placed.options
        if o.sharding_type == "data_parallel"
    )
    assert memory.always["table weights"].sum() == weights + 3 * replicated
    dense, exchange = memory.moments
    assert (memory.peak == np.maximum(dense, exchange)).all()
    assert memory.moment == (
        "dense_stage" if dense[memory.peak.argmax()] >= exchange[memory.peak.argmax()] else "exchange"
    )
    again = rank_memory(
        placed.options, problem_.tables, problem_.job, problem_.constant, (memory.capacity, memory.host_capacity)
    )
    assert (again.peak == memory.peak).all()


def test_what_the_search_is_told_is_what_is_reported(tmp_path: Path):
    """The storage of placed shards, with what the topology holds back, is the reported moment."""
    placed = place(problem(tmp_path, nodes=2))
    used = np.zeros(placed.problem.ranks)
    for option in placed.options:
        for shard in option.shards:
            used[shard.rank] += shard.storage.hbm
    held_back = placed.problem.constant.always + placed.problem.constant.dense_stage
    assert used + held_back == pytest.approx(placed.memory.moments[0], abs=4)
